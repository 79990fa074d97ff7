"""What several fits of one video begin from: the network of one short fit, and its embeddings as a
function of the frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hnervcodec.fitting.first_embeddings import FirstEmbeddings
from hnervcodec.fitting.synthesis_network import SynthesisNetwork


@dataclass(frozen=True)
class StartWeights:
    """A network in float, for others of about its shape to begin from.

    kernels: by the layer's name, float32 [out_channels, shuffle**2, in_channels, kernel, kernel].
    biases: by the layer's name, float32 [out_channels].
    first: the embeddings that it knows.
    """

    kernels: dict[str, Tensor]
    biases: dict[str, Tensor]
    first: FirstEmbeddings

    @classmethod
    def of(cls, synthesis: SynthesisNetwork, first: FirstEmbeddings) -> StartWeights:
        """What this network has learnt so far."""
        names = [spec.name for spec in synthesis.specs]
        return cls(
            {name: kernel.clone() for name, kernel in zip(names, _kernels(synthesis), strict=True)},
            {name: b.detach().clone() for name, b in zip(names, synthesis.biases, strict=True)},
            first,
        )

    @torch.no_grad()
    def put_into(self, synthesis: SynthesisNetwork, first: FirstEmbeddings) -> FirstEmbeddings:
        """Lets the network begin from this: the channels that both have. Nothing comes from
        channels and residual layers that only the new one has, so that it begins with the same
        function of the embeddings that are returned: `first` with those known here in place of its
        own. Where strides or kernels differ, that is `first`, and nothing is changed.
        """
        kernels = _kernels(synthesis)
        for spec, kernel in zip(synthesis.specs, kernels, strict=True):
            known = self.kernels.get(spec.name)
            if known is not None and (known.shape[1], *known.shape[3:]) != (
                kernel.shape[1],
                *kernel.shape[3:],
            ):
                return first
        for spec, kernel, bias in zip(synthesis.specs, kernels, synthesis.biases, strict=True):
            known = self.kernels.get(spec.name)
            if known is None:
                kernel.zero_()
                continue
            out, inside = min(len(known), len(kernel)), min(known.shape[2], kernel.shape[2])
            kernel[:out, :, :inside] = known[:out, :, :inside]
            kernel[:out, :, inside:] = 0
            bias[:out] = self.biases[spec.name][:out]
        return first.with_first_of(self.first)

    def to_bytes(self) -> bytes:
        """As the job folder keeps it and other processes are sent it."""
        data = io.BytesIO()
        torch.save([self.kernels, self.biases, self.first.axes, self.first.offset], data)
        return data.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> StartWeights:
        """Inverse of `to_bytes`, on the CPU; ValueError if it is something else."""
        try:
            kernels, biases, axes, offset = torch.load(
                io.BytesIO(data), weights_only=True, map_location="cpu"
            )
        except Exception as error:
            raise ValueError("these are no networks") from error
        return cls(kernels, biases, FirstEmbeddings(axes, offset))


def _kernels(synthesis: SynthesisNetwork) -> Sequence[Tensor]:
    """Views of the layers' weights, in the shapes of `StartWeights.kernels`."""
    return [
        weight.detach().view(spec.out_channels, spec.shuffle**2, *spec.weight_shape[1:])
        for weight, spec in zip(synthesis.weights, synthesis.specs, strict=True)
    ]
