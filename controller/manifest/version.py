"""What the parse cache is keyed by beside the content: this reader and its schemas."""

from controller import digest
from controller.manifest import schema

_READER = 3  # raise it when the same text gets another value, index or judgement

READER_VERSION = f"{_READER}.{digest.sha256(''.join(map(schema.text, schema.KINDS)))[7:19]}"
