"""The network in plain torch, without the rest of the program."""

import torch

import armlp


def test_a_sine_is_learned_in_a_few_lines_of_torch():
    torch.manual_seed(0)
    series = torch.sin(2 * torch.pi * torch.arange(400.0) / 24) + 0.05 * torch.randn(400)
    windows = series.unfold(0, 49, 1)
    model = armlp.AutoregressiveMLP(context_length=48, head="normal", dropout=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = -model(windows[:, :-1]).log_prob(windows[:, -1:]).mean()
        loss.backward()
        optimizer.step()
    paths = armlp.rollout(model.eval(), series[None, -48:], horizon=48, num_paths=100)
    assert paths.shape == (1, 100, 48)
    truth = torch.sin(2 * torch.pi * torch.arange(400.0, 448.0) / 24)
    assert (paths.mean(1)[0] - truth).abs().max() < 0.2
    assert 0.02 < paths.std(1).mean() < 0.2


def test_one_channel_needs_no_axis():
    torch.manual_seed(0)
    model = armlp.AutoregressiveMLP(context_length=8, patch_length=3, season_length=4, members=2).eval()
    context, observed = torch.randn(5, 8), torch.rand(5, 8) < 0.8
    bare, full = model(context, observed), model(context[..., None], observed[..., None])
    assert bare.batch_shape == (5, 3)
    assert full.batch_shape == (5, 3, 1)
    assert bare.mean.equal(full.mean[..., 0])
    noise = torch.rand(5, 4, 7, 1)
    paths = armlp.rollout(model, context, 7, 4, observed, noise)
    assert paths.shape == (5, 4, 7)
    assert paths.equal(armlp.rollout(model, context[..., None], 7, 4, observed[..., None], noise[..., None])[..., 0])
