"""Reading documents from files and folders, lazily, whatever their format."""

from indexes.readers.documents import read_documents
from indexes.readers.intake import Read, ReaderConfig
from indexes.readers.sources import inputs_fingerprint, total_bytes

__all__ = ["Read", "ReaderConfig", "inputs_fingerprint", "read_documents", "total_bytes"]
