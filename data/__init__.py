"""Corpora as problems in three splits that share no text, with an audit of how they were read.

    splits = load_splits(MathWordProblem(), DataOptions(source="svamp"))  # from $REFINER_DATA/svamp
    splits.train[0].text, splits.audit.repairs, content_hash(splits)
    read_corpus("critique_val.json").problems                       # any known format: data/formats.py
    audit_files(["critique_val.json", "critique_test.json"]).overlaps

Neither torch nor `datasets` is imported before something is saved or loaded.
"""

from data.audit import audit_files
from data.corpus import Audit, Corpus, Splits, carve_dev, check_disjoint, content_hash, require_problems, text_key
from data.formats import FORMATS, Format, read_corpus
from data.mwp_formats import prefix_to_program
from data.sources import SOURCES, DataOptions, limited, load_splits
from data.storage import load_saved, save_splits

__all__ = [
    "FORMATS",
    "SOURCES",
    "Audit",
    "Corpus",
    "DataOptions",
    "Format",
    "Splits",
    "audit_files",
    "carve_dev",
    "check_disjoint",
    "content_hash",
    "limited",
    "load_saved",
    "load_splits",
    "prefix_to_program",
    "read_corpus",
    "require_problems",
    "save_splits",
    "text_key",
]
