"""The basket: articles, and how many of each."""

from dataclasses import dataclass, field


@dataclass
class Basket:
    """Articles in the order in which they were first put in."""

    items: dict[str, int] = field(default_factory=dict)

    def add(self, article: str, count: int = 1) -> None:
        """Put some of an article in. Raises ValueError for fewer than one."""
        if count < 1:
            raise ValueError(f"{count} of {article}: at least one")
        self.items[article] = self.items.get(article, 0) + count

    @property
    def count(self) -> int:
        """How many things there are, of all articles."""
        return sum(self.items.values())
