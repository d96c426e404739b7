"""Vector quantisation: a latent field as entries of a learned codebook.

van den Oord et al. 2017 (VQ-VAE), the codebook by moving averages as in their appendix A.1, dead
entries put where the data are as in Dhariwal et al. 2020 (Jukebox, section 3.1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SMOOTHING = 1e-5  # keeps an entry that nothing chose finite
ROWS = 8192  # vectors compared with the codebook at a time: memory stays flat in the image's size


class Quantised(NamedTuple):
    """``values``: (b, c, h, w), entries of the codebook with the gradient of what came in.

    ``indices``: (b, h, w). ``commitment``: mean squared distance to the entry, its gradient moves
    the encoder only. ``perplexity``: exp of the entropy of the entries' use, 1 to their number.
    """

    values: Tensor
    indices: Tensor
    commitment: Tensor
    perplexity: Tensor


class VectorQuantiser(nn.Module):
    """``codes`` entries of ``channels`` numbers; buffers, learned without gradient.

    ``decay``: of the moving averages; ``restart``: an entry used less than this share of the mean
    use is put onto a random vector of the batch.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self, codes: int, channels: int, *, decay: float = 0.99, restart: float = 0.05
    ) -> None:
        super().__init__()
        self.decay, self.restart = decay, restart
        self.register_buffer("codebook", torch.zeros(codes, channels))
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, channels))

    def nearest(self, rows: Tensor) -> Tensor:
        """(n, c) vectors -> (n,) nearest entries; of equally near ones the first."""
        half = 0.5 * self.codebook.square().sum(1)
        parts = [(half - part.detach() @ self.codebook.T).argmin(1) for part in rows.split(ROWS)]
        return torch.cat(parts)

    def forward(self, latent: Tensor) -> Quantised:
        with torch.autocast(latent.device.type, enabled=False):
            rows = self._rows(latent)
            indices = self.nearest(rows)
            chosen = self.codebook[indices]
            commitment = (rows - chosen).square().mean()
            share = torch.bincount(indices, minlength=len(self.codebook)).float() / len(indices)
            perplexity = torch.special.entr(share).sum().exp()
            straight = rows + (chosen - rows).detach()
        b, c, h, w = latent.shape
        values = straight.reshape(b, h, w, c).movedim(-1, 1)
        return Quantised(values, indices.reshape(b, h, w), commitment, perplexity)

    def _rows(self, latent: Tensor) -> Tensor:
        """(b, c, h, w) -> (b·h·w, c) in the codebook's precision."""
        return latent.movedim(1, -1).flatten(0, -2).to(self.codebook.dtype)

    @torch.no_grad()
    def start(self, latent: Tensor, generator: torch.Generator) -> None:
        """Entries on random vectors of a first batch, all taken to be used equally."""
        rows = self._rows(latent)
        self.codebook.copy_(self._drawn(rows, len(self.codebook), generator))
        self.counts.fill_(len(rows) / len(self.codebook))
        self.sums.copy_(self.codebook * self.counts[:, None])

    @torch.no_grad()
    def update(self, latent: Tensor, indices: Tensor, generator: torch.Generator) -> int:
        """One step of the moving averages toward a batch; how many entries were restarted.

        ``latent`` (b, c, h, w) and the ``indices`` (b, h, w) chosen for it.
        """
        rows, chosen = self._rows(latent), indices.flatten()
        used = torch.bincount(chosen, minlength=len(self.codebook)).to(rows.dtype)
        summed = torch.zeros_like(self.sums).index_add(0, chosen, rows)
        self.counts.lerp_(used, 1 - self.decay)
        self.sums.lerp_(summed, 1 - self.decay)
        total, codes = self.counts.sum(), len(self.counts)
        smooth = (self.counts + SMOOTHING) / (total + codes * SMOOTHING) * total
        self.codebook.copy_(self.sums / smooth[:, None])
        mean = total / codes
        dead = (self.counts < self.restart * mean).nonzero()[:, 0]
        if len(dead):
            self.codebook[dead] = self._drawn(rows, len(dead), generator)
            self.counts[dead] = mean
            self.sums[dead] = self.codebook[dead] * mean
        return len(dead)

    def _drawn(self, rows: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """n of the rows at random; with a little noise where there are fewer, so none is twice."""
        device = generator.device
        if n <= len(rows):
            place = torch.randperm(len(rows), generator=generator, device=device)[:n]
            return rows[place.to(rows.device)]
        place = torch.randint(len(rows), (n,), generator=generator, device=device)
        noise = torch.randn(n, rows.shape[1], generator=generator, device=device)
        spread = 0.01 * rows.std(0, correction=0)
        return rows[place.to(rows.device)] + spread * noise.to(rows)
