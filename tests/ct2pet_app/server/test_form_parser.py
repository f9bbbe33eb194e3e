"""The files of a form in one temporary file: complete and separate for any chunking of the body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from hypothesis import given
from hypothesis import strategies as st
from requests_toolbelt import MultipartEncoder
from starlette.datastructures import FormData, Headers, UploadFile

from ct2pet_app.server.middleware.form_parser import SharedFileParser


def parsed(body: bytes, content_type: str, *, chunk_bytes: int) -> dict[str, bytes]:
    """Return the content of each file of a form."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        for at in range(0, len(body), chunk_bytes):
            yield body[at : at + chunk_bytes]

    async def parse() -> dict[str, bytes]:
        headers = Headers({"content-type": content_type})
        parser = SharedFileParser(headers, chunks(), max_files=10, max_fields=10, max_part_size=1000)
        form: FormData = await parser.parse()
        found = {name: value for name, value in form.items() if isinstance(value, UploadFile)}
        content = {name: await value.read() for name, value in found.items()}
        assert {name: await value.read() for name, value in found.items()} == dict.fromkeys(found, b"")
        for name, value in found.items():
            await value.seek(0)
            assert await value.read(3) == content[name][:3]
        await form.close()
        return content

    return asyncio.run(parse())


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 2000))
def test_every_file_is_complete(files: list[bytes], chunk_bytes: int) -> None:
    fields = {"text": "a", **{f"file{n}": (f"{n}.dcm", content) for n, content in enumerate(files)}}
    encoder = MultipartEncoder(fields)
    found = parsed(encoder.to_string(), encoder.content_type, chunk_bytes=chunk_bytes)
    assert found == {f"file{n}": content for n, content in enumerate(files)}
