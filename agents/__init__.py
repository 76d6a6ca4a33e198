"""Who acts in the environments: generators, learned critics, the scripted editor; their models and tokenizers."""
