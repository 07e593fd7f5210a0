"""What the API's lists share: pages, and what isn't there."""

from typing import Annotated, Any

from fastapi import HTTPException, Query

API = "/api/v1"
Limit = Annotated[int, Query(ge=1, le=500, description="Entries of one page.")]
Cursor = Annotated[str | None, Query(description="`next` of the page before.")]
View = dict[str, Any]


def page(items: list[View], following: str | None = None) -> View:
    return {"items": items, "next": following}


def there(found: Any, what: str) -> Any:
    if found is None:
        raise HTTPException(404, f"there is no {what}")
    return found
