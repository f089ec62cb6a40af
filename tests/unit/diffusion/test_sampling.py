import subprocess
import sys

import pytest
import torch

from harope.diffusion import (
    SAMPLERS,
    FlowConfig,
    GaussianConfig,
    GaussianDiffusion,
    RectifiedFlow,
    SampleNoise,
    ancestral_sample,
    ddim_sample,
    dpm_solver_sample,
    euler_sample,
    heun_sample,
    sampler_for,
)
from harope.diffusion.process import Process

PROCESSES = {
    "ancestral": GaussianDiffusion(),
    "ddim": GaussianDiffusion(),
    "dpm": GaussianDiffusion(),
    "euler": RectifiedFlow(),
    "heun": RectifiedFlow(),
}
SHAPE = (4, 6, 6)


def smooth_model(process):
    """A bounded, non-linear denoiser that mixes channels and knows the time."""
    channels = process.output_channels(4)
    weight = torch.randn(channels, 4, generator=torch.Generator().manual_seed(0)) / 4

    def model(x, t):
        mixed = torch.einsum("oc,bchw->bohw", weight, x)
        return torch.tanh(mixed + t.view(-1, 1, 1, 1) / 1000)

    return model


def draw(name, seeds, num_steps=10, on_step=None):
    process = PROCESSES[name]
    noise = SampleNoise(seeds, SHAPE)
    return SAMPLERS[name](smooth_model(process), process, noise, num_steps, on_step)


def many() -> SampleNoise:
    return SampleNoise(range(64), (1, 32, 32))


def flow_ode_error(sampler, data, num_steps) -> float:
    """Distance to the exact end of the flow's ODE: x_0 = mean + std x_1."""
    noise = SampleNoise([0], SHAPE, dtype=torch.float64)
    start = SampleNoise([0], SHAPE, dtype=torch.float64).next()
    end = sampler(data.flow_model(), RectifiedFlow(), noise, num_steps)
    return (end - (data.mean + data.std * start)).abs().max().item()


def diffusion_ode_error(sampler, data, num_steps, respaced) -> float:
    """Distance to the exact end of the probability flow: (x_T - sqrt(abar) mean) std / spread."""
    process = GaussianDiffusion()
    schedule = process.schedule.respaced(num_steps) if respaced else process.schedule
    end = sampler(data.noise_model(schedule), process, SampleNoise([0], SHAPE), num_steps)
    abar = process.schedule.alphas_cumprod[-1].item()
    spread = (abar * data.std**2 + 1 - abar) ** 0.5
    start = SampleNoise([0], SHAPE).next() - abar**0.5 * data.mean
    return (end - (data.mean + start * data.std / spread)).abs().max().item()


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_do_not_depend_on_the_batch(name):
    together = draw(name, range(6))
    apart = torch.cat([draw(name, range(4)), draw(name, range(4, 6))])
    alone = torch.cat([draw(name, [seed]) for seed in range(6)])
    # Relative to the scale of the samples: a denoiser of random weights leaves them large.
    tolerance = 1e-5 * together.abs().max().item()
    torch.testing.assert_close(apart, together, rtol=0, atol=tolerance)
    torch.testing.assert_close(alone, together, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", SAMPLERS)
def test_progress_counts_every_step(name):
    seen = []
    draw(name, [0], num_steps=5, on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_keep_no_graph(name):
    process = PROCESSES[name]
    scale = torch.ones((), requires_grad=True)
    model = smooth_model(process)
    sample = SAMPLERS[name](lambda x, t: scale * model(x, t), process, SampleNoise([0], SHAPE), 4)
    assert not sample.requires_grad


def test_ancestral_sampling_recovers_the_distribution_exactly(data):
    process = GaussianDiffusion()
    model = data.noise_model(process.schedule.respaced(20))
    sample = ancestral_sample(model, process, many(), 20)
    # The chain ends with the mean of x_0 given x at step 0, whose deviation is short of std by
    # its noise of variance 1e-4 (2e-4 of 0.5). Else four standard errors among 65,536.
    assert sample.mean().item() == pytest.approx(data.mean, abs=4 * 0.5 / 256)
    assert sample.std().item() == pytest.approx(data.std, abs=4 * 0.5 / 362)


def test_fixed_variance_sampling_recovers_the_distribution(data):
    process = GaussianDiffusion(GaussianConfig(learned_variance=False))
    model = data.noise_model(process.schedule.respaced(250), learned_variance=False)
    sample = ancestral_sample(model, process, many(), 250)
    # The posterior's variance is a little too small on any chain of finite steps.
    assert sample.mean().item() == pytest.approx(data.mean, abs=4 * 0.5 / 256)
    assert sample.std().item() == pytest.approx(data.std, rel=0.03)


def test_ddim_is_a_first_order_solver_of_the_probability_flow(data):
    errors = [diffusion_ode_error(ddim_sample, data, n, respaced=True) for n in (50, 100, 200)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.15)


def test_dpm_solver_beats_ddim_on_the_probability_flow(data):
    dpm = diffusion_ode_error(dpm_solver_sample, data, 20, respaced=False)
    ddim = diffusion_ode_error(ddim_sample, data, 20, respaced=True)
    assert dpm < ddim / 3


def test_euler_is_first_order(data):
    coarse, fine = (flow_ode_error(euler_sample, data, n) for n in (100, 200))
    assert coarse / fine == pytest.approx(2, rel=0.05)


def test_heun_is_second_order(data):
    coarse, fine = (flow_ode_error(heun_sample, data, n) for n in (50, 100))
    assert coarse / fine == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("sampler", [euler_sample, heun_sample])
def test_flow_samplers_recover_the_distribution(sampler, data):
    sample = sampler(data.flow_model(), RectifiedFlow(), many(), 100)
    assert sample.mean().item() == pytest.approx(data.mean, abs=0.01)
    assert sample.std().item() == pytest.approx(data.std, abs=0.01)


@pytest.mark.parametrize("sampler", [euler_sample, heun_sample])
def test_a_model_of_the_data_samples_as_the_model_of_its_velocity_does(sampler, data):
    velocity = data.flow_model()

    def data_model(x, t):
        return x - t.view(-1, 1, 1, 1) / 1000 * velocity(x, t)

    one = sampler(velocity, RectifiedFlow(), many(), 10)
    two = sampler(data_model, RectifiedFlow(FlowConfig(prediction="data")), many(), 10)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_heun_does_not_evaluate_the_model_at_time_0(data):
    times = []

    def model(x, t):
        times.append(t[0].item())
        return data.flow_model()(x, t)

    heun_sample(model, RectifiedFlow(), many(), 4)
    assert times == [1000, 750, 750, 500, 500, 250, 250]


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm"])
def test_clipping_keeps_pixels_in_range(name):
    clipped = GaussianDiffusion(GaussianConfig(clip_sample=True))
    sample = SAMPLERS[name](smooth_model(clipped), clipped, SampleNoise([0], SHAPE), 10)
    assert sample.abs().max() <= 1 + 1e-5
    assert draw(name, [0]).abs().max() > 1.5


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm"])
def test_clipping_changes_nothing_within_the_range(name, data):
    process = GaussianDiffusion()
    schedule = process.schedule if name == "dpm" else process.schedule.respaced(20)
    narrow = type(data)(mean=0.1, std=0.1)
    samples = [
        SAMPLERS[name](
            narrow.noise_model(schedule),
            GaussianDiffusion(GaussianConfig(clip_sample=clip)),
            SampleNoise([0, 1], SHAPE),
            20,
        )
        for clip in (False, True)
    ]
    torch.testing.assert_close(*samples, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_found_by_name(name):
    assert sampler_for(name, PROCESSES[name]) is SAMPLERS[name]


@pytest.mark.parametrize(
    ("name", "process", "choices"),
    [
        ("euler", GaussianDiffusion(), "ancestral, ddim, dpm"),
        ("ddim", RectifiedFlow(), "euler, heun"),
        ("ddmi", GaussianDiffusion(), "ancestral, ddim, dpm"),
    ],
)
def test_a_sampler_of_another_process_is_refused_with_the_valid_ones(name, process, choices):
    with pytest.raises(ValueError, match=f"'{name}' does not go with .*: choose one of {choices}"):
        sampler_for(name, process)


def test_unknown_process_has_no_samplers():
    class Other(Process):
        losses = sample_times = times_at = output_channels = None

    with pytest.raises(ValueError, match=r"does not go with Other: it has no samplers"):
        sampler_for("euler", Other())


@pytest.mark.parametrize(
    ("name", "num_steps", "message"),
    [
        ("ancestral", 1, "num_steps 1 .*: choose"),
        ("ancestral", 1001, "num_steps 1001 .*: choose"),
        ("ddim", 1, "num_steps 1 .*: choose"),
        ("ddim", 1001, "num_steps 1001 .*: choose"),
        ("dpm", 0, "num_steps 0 .*: choose"),
        ("dpm", 1000, "num_steps 1000 .*: choose"),
        ("euler", 0, "num_steps must be a whole number of at least 1, got 0"),
        ("heun", 0, "num_steps must be a whole number of at least 1, got 0"),
    ],
)
def test_a_number_of_steps_out_of_range_is_refused(name, num_steps, message):
    with pytest.raises(ValueError, match=message):
        draw(name, [0], num_steps=num_steps)


@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_without_diffusers_the_error_names_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install harope\[diffusers\]"):
        draw(name, [0])


def test_importing_the_package_does_not_import_diffusers():
    code = "import sys, harope.diffusion; sys.exit('diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
