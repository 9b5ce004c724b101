"""The process that parses PDFs: a path in JSON on each line in, the text in JSON on each line out.

Started as a script by `indexes.readers.pdf`. It imports nothing of ours, and whatever a hostile
file does to it, its parent only loses this process.
"""

from __future__ import annotations

import json
import logging
import resource
import sys

MAX_MEMORY_BYTES = 2 << 30
MAX_TEXT_CHARS = 64 << 20


def extract(path: str) -> dict[str, str]:
    """`{"title", "text"}` of a PDF, or `{"error"}` with the reason there is none."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, FileNotDecryptedError, WrongPasswordError

    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            return {"error": "the PDF is encrypted"}
        pages: list[str] = []
        room = MAX_TEXT_CHARS
        for page in reader.pages:
            pages.append(_clean(page.extract_text()))
            room -= len(pages[-1])
            if room < 0:
                return {"error": f"the PDF's text is longer than {MAX_TEXT_CHARS} characters"}
        title = reader.metadata.title if reader.metadata else None
        return {"title": _clean(title or "").strip(), "text": "\n\n".join(pages)}
    except (FileNotDecryptedError, WrongPasswordError, DependencyError):
        return {"error": "the PDF is encrypted"}
    except MemoryError:
        return {"error": "the PDF needs too much memory"}
    except Exception as error:  # noqa: BLE001  a broken file may raise anything at all in the parser
        return {"error": f"the PDF is broken: {type(error).__name__}: {error}"[:500]}


def _clean(text: str) -> str:
    """Surrogate pairs joined, lone surrogates replaced, NUL characters dropped."""
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined.replace("\0", "")


def main() -> None:
    """Serve until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    logging.disable()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(extract(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
