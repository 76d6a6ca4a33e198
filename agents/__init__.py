"""Who acts in the environments: generators and critics that are language models; their models and tokenizers."""
