"""What a campaign has trained so far."""

from __future__ import annotations

from generators.flow import JointFlow
from generators.joint_vae import JointVAE
from generators.student import JointStudent
from loop.errors import InvalidInputError
from loop.protocols import Generator
from loop.session import Session
from loop.summary import LOOP_ARM


def trained_flow(session: Session, use: str) -> JointFlow:
    """The generator of the last round that trained one; of a student, its teacher.

    ``use``: what wants it, for the message. Raises LedgerError when nothing is trained yet,
    InvalidInputError for a generator without a velocity to go along.
    """
    generator = _latest(session)
    if not isinstance(generator, JointFlow):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}; {use} need joint-flow"
        )
    return generator


def trained_frames(session: Session, use: str) -> JointFlow | JointVAE:
    """The same, or a joint autoencoder: what has a latent that two designs can be mixed in.

    Raises as ``trained_flow`` does.
    """
    generator = _latest(session)
    if not isinstance(generator, JointFlow | JointVAE):
        raise InvalidInputError(
            f"the campaign's generator is {generator.name}; {use} need joint-flow or vae"
        )
    return generator


def _latest(session: Session) -> Generator:
    generator = session.latest(LOOP_ARM)
    return generator.flow if isinstance(generator, JointStudent) else generator
