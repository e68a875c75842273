"""Tables in the Markdown documents."""


def table(text: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table after a heading, by their first cell."""
    lines = text[text.index(heading) :].splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| ---"))
    rows = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        rows[cells[0].strip(" `")] = cells[1:]
    return rows
