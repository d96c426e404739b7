"""What a campaign has trained so far."""

from __future__ import annotations

from generators.flow import JointFlow
from generators.student import JointStudent
from loop.errors import InvalidInputError
from loop.session import Session
from loop.summary import LOOP_ARM


def trained_flow(session: Session, use: str) -> JointFlow:
    """The generator of the last round that trained one; of a student, its teacher.

    ``use``: what wants it, for the message. Raises LedgerError when nothing is trained yet,
    InvalidInputError for a generator without a velocity to go along.
    """
    generator = session.latest(LOOP_ARM)
    if isinstance(generator, JointStudent):
        generator = generator.flow
    if not isinstance(generator, JointFlow):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}; {use} need joint-flow"
        )
    return generator
