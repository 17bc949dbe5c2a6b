"""A review in progress: the Run the page shows, its labels, and what all addresses share."""

import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import Depends, Request
from markupsafe import Markup

from blemish.calibration import BAND_WORDS, TwoGroups, chance_knots, mean_chance, two_groups
from blemish.images import UNKNOWN
from blemish.machine.errors import UnreadableImageError
from blemish.report.page import environment
from blemish.review.gallery import NOWHERE, Beside, Gallery
from blemish.review.labelling import MOST_TYPES, Labelling, StaleError
from blemish.review.ranking import Filter, Labels, describe, propose, rejected
from blemish.review.thumbnails import Thumbnails
from blemish.scores import above

if TYPE_CHECKING:
    from blemish.review.reasons import Reasons

PROPOSED = 12
VERSION = "x-version"  # the header, or `v` in an address, by which a tab says which ranking its rows are of


@dataclass(frozen=True)
class Other:
    """What the page says of an image in the Run beside."""

    row: int
    score: float
    flagged: bool


@dataclass(frozen=True)
class Card:
    """What the page says of one image."""

    row: int
    name: str
    score: float
    chance: float | None
    band: str
    word: str
    group: int
    alike: int
    flagged: bool
    type: str
    comment: str
    who: str
    other: Other | None = None


class Session:
    """A gallery with its labels, thumbnails and reasons, and the templates that show them."""

    def __init__(self, gallery: Gallery, beside: Beside | None, stopping: Callable[[], bool]) -> None:
        self.gallery, self.labelling, self.beside, self.stopping = gallery, Labelling(gallery), beside, stopping
        self.thumbnails = Thumbnails(gallery)
        self.described = describe(gallery.scores)
        # Of the rows that addresses speak of: after another fit they are others.
        self.version = sha256(
            os.fsencode(gallery.folder) + gallery.scores.image.tobytes() + "".join(gallery.content).encode()
        ).hexdigest()[:10]
        self.first = frozenset(row for row, word in self.labelling.words().items() if word == "bad")
        self._chances: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None] | None = None
        self.environment = environment("blemish.review")

    @cached_property
    def reasons(self) -> "Reasons":
        """Why images score high; loads torch, which the page does not wait for."""
        from blemish.review.reasons import Reasons

        return Reasons(self.gallery, self.stopping)

    def check(self, *rows: int) -> None:
        """Raises `UnreadableImageError`, which is a 404, for a row that is none."""
        if not all(0 <= row < len(self.gallery) for row in rows):
            raise UnreadableImageError("There is no such image in this Run.")

    def render(self, template: str, **values: object) -> Markup:
        """A template, which escapes what it is given, as text that may stand inside another."""
        shared = {
            "gallery": self.gallery, "beside_run": self.beside, "v": self.version,
            "thumbnail": self.thumbnail, "heat": self.heat,
        }  # fmt: skip
        return Markup(self.environment.get_template(template).render(**shared, **values))  # noqa: S704

    def thumbnail(self, row: int) -> str:
        """The picture of a card itself if it is kept, which spares the browser a request; else its address."""
        kept = self.thumbnails.kept(row)
        return _within("image/jpeg", kept) if kept else f"/thumbnail/{row}?v={self.version}"

    def heat(self, row: int) -> str:
        """The coloured layer of a card; empty where nothing has a colour, as in most images."""
        coloured = self.thumbnails.heat(row)
        return _within("image/png", coloured) if coloured else ""

    def chances(self) -> np.ndarray[Any, Any] | None:
        """(N,) of being bad, with what was reviewed so far; those of the Run where nothing was."""
        labels = self.labelling.labels()
        if not self.gallery.decision.reviewed and (labels == UNKNOWN).all():
            return self.gallery.decision.chances(self.gallery.scores.image)
        if self._chances is None or not np.array_equal(self._chances[0], labels):
            scores = self.gallery.scores.image
            found = None
            if self.draws is not None:
                model, knots, each = self.draws
                found = mean_chance(knots, each, model.knowing(scores, labels).weights).of(scores)
            self._chances = labels, found
        return self._chances[1]

    @cached_property
    def draws(self) -> tuple[TwoGroups, np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
        """Draws of what good and bad scores may be like; some scores (K,); the chance of each by each draw (S, K).

        They are kept, since labels only weight the draws. None where all scores are equal.
        """
        scores = self.gallery.scores.image
        if len(scores) < 2 or not np.ptp(scores):
            return None
        model, knots = two_groups(scores, stretch=self.gallery.decision.stretch), chance_knots(scores)
        return model, knots, model.each_chance(knots)

    def cards(self, rows: list[int]) -> list[Card]:
        """Cards of some rows."""
        gallery, words, groups = self.gallery, self.labelling.words(), self.thumbnails.groups
        known = self.labelling.rows()
        # Of what is labelled no chance is said; so an answer to a label waits for none.
        open_ = any(words.get(row) not in ("good", "bad") for row in rows)
        chances = self.chances() if open_ and gallery.decision.chance is not None else None
        sizes = np.bincount(groups, minlength=len(gallery))
        scores = gallery.scores.image[rows]
        flags, bands = above(scores, self.labelling.threshold), gallery.decision.bands(scores)
        return [
            Card(
                row, gallery.name(row), float(gallery.scores.image[row]),
                float(chances[row]) if chances is not None else None, BAND_WORDS[band], words.get(row, ""),
                int(groups[row]), int(sizes[groups[row]]), bool(flagged),
                *((found.type, found.comment, found.who) if (found := known.get(row)) else ("", "", "")),
                self._other(row),
            )
            for row, flagged, band in zip(rows, flags, bands, strict=True)
        ]  # fmt: skip

    def _other(self, row: int) -> Other | None:
        if self.beside is None or self.beside.rows[row] == NOWHERE:
            return None
        other, there = int(self.beside.rows[row]), self.beside.gallery
        score = float(there.scores.image[other])
        return Other(other, score, bool(above([score], there.decision.threshold)[0]))

    def status(self) -> dict[str, object]:
        """Counts for the head of the page."""
        words, total = self.labelling.words(), len(self.gallery)
        counts = {word: sum(each == word for each in words.values()) for word in ("good", "bad", "skipped")}
        bad = sum(rejected(self.gallery, words, self.labelling.threshold))
        return {
            "total": total, "counts": counts, "rejected": bad, "kept": total - bad,
            "notes": self.labelling.all_notes(), "types": self.labelling.types(), "keys": MOST_TYPES,
        }  # fmt: skip

    def listed(self, chosen: Filter) -> list[int]:
        """The rows that a filter shows, in its order."""
        if chosen.order == "teach":
            return self.proposed()
        labelling = self.labelling
        known = Labels(
            labelling.words(),
            labelling.rows(),
            labelling.threshold,
            self.thumbnails.groups,
            self.first,
            self.beside.places_apart() if self.beside else None,
        )
        return chosen.rows(self.gallery, known)

    def proposed(self) -> list[int]:
        """The rows whose label would teach most."""
        return propose(
            self.gallery.scores.image, self.chances(), self.gallery.decision.threshold, self._said(), self.described,
            self.thumbnails.groups, PROPOSED,
        )  # fmt: skip

    def _said(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Labels, with what was skipped as said, too: it is not proposed again."""
        labels = self.labelling.labels()
        for row, word in self.labelling.words().items():
            if word == "skipped" and labels[row] == UNKNOWN:
                labels[row] = UNKNOWN - 1
        return labels


def _within(kind: str, data: bytes) -> str:
    """A picture as an address that holds it."""
    return f"data:{kind};base64,{b64encode(data).decode()}"


async def current(request: Request) -> Session:
    """The session as it is now: after a fit it is another one."""
    session: Session = request.app.state.session
    session.thumbnails.give_way()
    return session


async def same(request: Request) -> Session:
    """The session whose rows the tab knows; changes have to say which. Raises `StaleError` if it has ended."""
    session = await current(request)
    version = request.headers.get(VERSION) or request.query_params.get("v")
    if version != session.version and (version is not None or request.method == "POST"):
        raise StaleError
    return session


Current = Annotated[Session, Depends(current)]
Same = Annotated[Session, Depends(same)]
