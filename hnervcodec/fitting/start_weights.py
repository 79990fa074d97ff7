"""What several fits of one video begin from: the networks of one short fit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hnervcodec.fitting.analysis_network import AnalysisNetwork
from hnervcodec.fitting.synthesis_network import SynthesisNetwork


@dataclass(frozen=True)
class StartWeights:
    """Networks in float, for others of about their shape to begin from.

    kernels: by the layer's name, float32 [out_channels, shuffle**2, in_channels, kernel, kernel].
    biases: by the layer's name, float32 [out_channels].
    analysis: the state of the analysis network.
    """

    kernels: dict[str, Tensor]
    biases: dict[str, Tensor]
    analysis: dict[str, Tensor]

    @classmethod
    def of(cls, synthesis: SynthesisNetwork, analysis: AnalysisNetwork) -> StartWeights:
        """What these networks have learnt so far."""
        names = [spec.name for spec in synthesis.specs]
        return cls(
            {name: kernel.clone() for name, kernel in zip(names, _kernels(synthesis), strict=True)},
            {name: b.detach().clone() for name, b in zip(names, synthesis.biases, strict=True)},
            {name: values.clone() for name, values in analysis.state_dict().items()},
        )

    @torch.no_grad()
    def put_into(self, synthesis: SynthesisNetwork, analysis: AnalysisNetwork) -> bool:
        """Lets the networks begin from these: the channels that both have. Nothing comes from
        channels and residual layers that only the new ones have, so that they begin with the same
        function. Returns False, and changes nothing, where their strides or kernels differ.
        """
        own = analysis.state_dict()
        body = [name for name in own if not name.startswith(f"stages.{len(analysis.stages) - 1}.")]
        if any(n not in self.analysis or self.analysis[n].shape != own[n].shape for n in body):
            return False
        kernels = _kernels(synthesis)
        for spec, kernel in zip(synthesis.specs, kernels, strict=True):
            known = self.kernels.get(spec.name)
            if known is not None and (known.shape[1], *known.shape[3:]) != (
                kernel.shape[1],
                *kernel.shape[3:],
            ):
                return False
        for name, values in own.items():
            count = min(len(values), len(self.analysis[name]))
            values[:count] = self.analysis[name][:count]
        for spec, kernel, bias in zip(synthesis.specs, kernels, synthesis.biases, strict=True):
            known = self.kernels.get(spec.name)
            if known is None:
                kernel.zero_()
                continue
            out, inside = min(len(known), len(kernel)), min(known.shape[2], kernel.shape[2])
            kernel[:out, :, :inside] = known[:out, :, :inside]
            kernel[:out, :, inside:] = 0
            bias[:out] = self.biases[spec.name][:out]
        return True

    def to_bytes(self) -> bytes:
        """As the job folder keeps it and other processes are sent it."""
        data = io.BytesIO()
        torch.save([self.kernels, self.biases, self.analysis], data)
        return data.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> StartWeights:
        """Inverse of `to_bytes`, on the CPU; ValueError if it is something else."""
        try:
            kernels, biases, analysis = torch.load(
                io.BytesIO(data), weights_only=True, map_location="cpu"
            )
        except Exception as error:
            raise ValueError("these are no networks") from error
        return cls(kernels, biases, analysis)


def _kernels(synthesis: SynthesisNetwork) -> Sequence[Tensor]:
    """Views of the layers' weights, in the shapes of `StartWeights.kernels`."""
    return [
        weight.detach().view(spec.out_channels, spec.shuffle**2, *spec.weight_shape[1:])
        for weight, spec in zip(synthesis.weights, synthesis.specs, strict=True)
    ]
