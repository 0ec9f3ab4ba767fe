"""The inputs of the network: values and mask of a window, its spread, and covariates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armlp.data.covariates import Covariates, columns
from armlp.model.scaling import Scaling


class Inputs(nn.Module):
    """Concatenate the inputs of one network call; each member embeds codes with separate tables.

    The arguments are those of `AutoregressiveMLP`; `num_codes` is the number of codes of the values, 0 for numbers.
    """

    def __init__(
        self,
        context_length: int,
        patch_length: int,
        channels: int,
        mask_input: bool,
        level_input: bool,
        num_codes: int,
        covariate_sizes: Mapping[str, Sequence[int]],
        members: int,
    ) -> None:
        super().__init__()
        self.context_length, self.patch_length = context_length, patch_length
        self.channels, self.num_codes, self.members = channels, num_codes, members
        self.mask_input, self.level_input = mask_input, level_input
        self.sizes = {role: list(covariate_sizes.get(role, [])) for role in Covariates._fields}
        self.symbol_embedding = self._embedding(num_codes, has_unknown=False) if num_codes else None
        columns = [(f"{role}_{index}", size) for role, sizes in self.sizes.items() for index, size in enumerate(sizes)]
        self.embeddings = nn.ModuleDict({name: self._embedding(size) for name, size in columns if size})
        steps = {"known": context_length + patch_length, "past": context_length, "calendar": 1, "static": 1}
        self.width = context_length * (self.value_width + channels * mask_input) + channels * level_input
        self.width += sum(steps[role] * embedding_width(size) for role, sizes in self.sizes.items() for size in sizes)

    def _embedding(self, size: int, has_unknown: bool = True) -> nn.Embedding:
        """Return an embedding; code 0, for unknown categories, starts at 0, because training may not contain it."""
        embedding = nn.Embedding(self.members * size, embedding_width(size))
        if has_unknown:
            nn.init.zeros_(embedding.weight[::size])
        return embedding

    @property
    def has_covariates(self) -> bool:
        """Whether the network has covariates."""
        return any(self.sizes.values())

    def forward(
        self, windows: Tensor, observed: Tensor, scaling: Scaling, covariates: Covariates | None, steps: Sequence[int]
    ) -> Tensor:
        """Return all inputs `[B, K, width]` of the patches that begin at the ascending `steps [K]` after the origin.

        Args:
            windows: `[B, K, L, ...]` before each patch, embedded by `embed`.
            observed: `[B, K, L, V]`, of the same windows.
            scaling: Scaling of the context at the origin.
            covariates: Covariates of the window at the origin and of all patches after it.
        """
        inputs = [windows.flatten(2)]
        if self.mask_input:
            inputs.append(observed.flatten(2).to(windows.dtype))
        if self.level_input:
            ratio = (scaling.scale / scaling.magnitude).log().flatten(1)
            inputs.append(ratio[:, None].expand(-1, len(steps), -1))
        if self.has_covariates:
            assert covariates is not None, "the model was trained with covariates, and needs them"
            columns = [torch.cat(self._covariates(covariates, step), 1) for step in steps]
            inputs.append(torch.stack(columns, 1))
        return torch.cat(inputs, dim=2) if len(inputs) > 1 else inputs[0]

    def windows(self, values: Tensor, steps: Sequence[int], after: bool = False) -> Tensor:
        """Return the windows `[B, K, L, ...]` that begin at `steps [K]` of `values [B, L, ...]` padded with `after`."""
        filled = values.new_full((len(values), steps[-1], *values.shape[2:]), after)
        windows = torch.cat([values, filled], 1).unfold(1, self.context_length, 1)
        index = torch.tensor(steps).to(values.device, non_blocking=True)
        return windows.index_select(1, index).movedim(-1, 2)

    @property
    def value_width(self) -> int:
        """Number of inputs per time step of the values."""
        return self.channels * embedding_width(self.num_codes)

    def code_table(self, member: int) -> Tensor | None:
        """Return a member's embeddings of the codes of the values, `[A, width]`; None if values are numbers."""
        if self.symbol_embedding is None:
            return None
        return self.symbol_embedding.weight.detach().unflatten(0, (self.members, -1))[member]

    def embed(self, values: Tensor) -> Tensor:
        """Return numbers `[B, L, V]` unchanged, codes as vectors `[B, L, V, width]`."""
        if self.symbol_embedding is None:
            return values
        return self._embedded(self.symbol_embedding, values, self.num_codes)

    def _covariates(self, covariates: Covariates, step: int) -> list[Tensor]:
        """Return the covariates of a patch, `[B, ...]` each, in every role numbers before codes."""
        length, patch = self.context_length, self.patch_length
        past = covariates.past[:, step:length]
        by_role = {
            "known": covariates.known[:, step : step + length + patch],
            "past": F.pad(past, (0, 0, 0, length - past.shape[1])),  # 0 after the origin
            "calendar": covariates.calendar[:, step : step + 1],
            "static": covariates.static[:, None],
        }
        inputs = []
        for role, sizes in self.sizes.items():
            numbers = [column for column, size in enumerate(sizes) if not size]
            inputs.append(columns(by_role[role], numbers).flatten(1))
            for column, size in enumerate(sizes):
                if size:
                    embedding = self.embeddings[f"{role}_{column}"]
                    inputs.append(self._embedded(embedding, by_role[role][..., column : column + 1], size).flatten(1))
        return inputs

    def _embedded(self, embedding: nn.Module, codes: Tensor, size: int) -> Tensor:
        """Return codes `[B, T, V]` as vectors `[B, T, V, width]`, from the table of each row's member."""
        codes = codes.long()
        if self.members > 1:
            member = torch.arange(self.members, device=codes.device).repeat_interleave(codes.shape[0] // self.members)
            codes = codes + size * member[:, None, None]
        return embedding(codes)


def embedding_width(size: int) -> int:
    """Return the width of an embedding of `size` codes; 1 for a column of numbers."""
    return min(16, round(1.6 * size**0.56)) if size else 1
