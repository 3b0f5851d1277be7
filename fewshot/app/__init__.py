"""The page of `fewshot app`: pictures of a few classes in, names of other pictures out (needs the extra `app`).

A small server of our own with a page that needs no build step, in place of gradio: gradio takes an unreadable picture for a class,
renames uploads and keeps them after its end, cuts confidences off on a phone, and holds Pillow back. What a page like this needs beyond
starlette and uvicorn, two packages of plain Python, is less than what it took to bend gradio.
"""
