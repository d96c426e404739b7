"""The network over the joint state by name: a transformer or a U-Net of one interface."""

from __future__ import annotations

from generators.networks.dit import PATCH, JointTransformer
from generators.networks.unet import JointUNet

JointNetwork = JointTransformer | JointUNet
PIXEL_PATCH = 8  # px a side of the squares of an image without autoencoder that are one token


def joint_network(
    kind: str,
    *,
    latent_shape: tuple[int, int, int] | None,
    vector_sizes: tuple[int, ...],
    properties: int,
    width: int,
    depth: int,
    heads: int,
    channels: int,
    attend: bool = False,
    patch: int = PATCH,
) -> JointNetwork:
    """Untrained, of ``kind`` "unet" or else a transformer, which alone has patches.

    Raises InvalidInputError for a U-Net without images or with sides that it cannot halve.
    """
    if kind == "unet":
        return JointUNet(
            latent_shape=latent_shape,
            vector_sizes=vector_sizes,
            properties=properties,
            width=width,
            depth=depth,
            heads=heads,
            channels=channels,
            attend=attend,
        )
    return JointTransformer(
        latent_shape=latent_shape,
        vector_sizes=vector_sizes,
        properties=properties,
        width=width,
        depth=depth,
        heads=heads,
        channels=channels,
        attend=attend,
        patch=patch,
    )
