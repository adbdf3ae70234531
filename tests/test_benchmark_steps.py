"""`vit_jax benchmark train` and `infer`: their figures are what happened."""

import json
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import runs
from vit_jax import trees
from vit_jax.benchmark import peak, steps, workload
from vit_jax.benchmark.infer import benchmark_infer, inference_work
from vit_jax.benchmark.train import benchmark_train
from vit_jax.checkpoints.store import Store
from vit_jax.errors import ConfigError, VitJaxError
from vit_jax.experiment import build
from vit_jax.main import main
from vit_jax.models.summary import summarize
from vit_jax.runtime import memory
from vit_jax.step import compiled

KEYS = (
    "images_per_second",
    "fraction_of_peak",
    "peak_memory_bytes",
    "seconds_to_first_step",
    "compile_seconds",
)


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    monkeypatch.setattr(peak, "SIDES", {"cpu": (64,)})


def _config(**changes):
    plain = {"rotate": 0.0, "shift": 0.0, "mixup": 0.0}  # compiled in half the time
    return runs.tiny_config(augment=plain, batch=16, batch_eval=24, num_classes=7, **changes)


@pytest.fixture(scope="module")
def trained():
    return benchmark_train(_config(dataset="no/such/folder"), 0.05)


def test_training_flops_are_three_forward_passes_of_the_summary(trained):
    experiment = workload.random_experiment(_config())
    forward = summarize(experiment.model, (8, 8)).flops
    assert trained.flops_per_image == 3 * forward
    reached = trained.images_per_second * 3 * forward / trained.matmul_flops_per_second
    assert trained.fraction_of_peak == pytest.approx(reached)
    assert trained.batch == 16
    assert trained.what["dtype"] == "float32"


def test_bytes_of_a_step_are_those_of_its_program(trained):
    """At least parameters and moments, read and written; a float of each pixel at the least."""
    assert trained.bytes_accessed > 2 * 3 * 4 * 3_000 / 8 + 16 * 8 * 8 * 3 * 4 / 8


def test_time_to_the_first_step_holds_compilation_and_what_came_before(trained):
    assert 0 < trained.compile_seconds < trained.seconds_to_first_step
    waited = benchmark_infer(_config(), 0.01, started=time.perf_counter() - 1000)
    assert waited.seconds_to_first_step > 1000 + waited.compile_seconds


def test_memory_is_that_of_the_compiled_program_where_the_device_does_not_count(trained):
    assert trained.memory_counted_by == "compiled program"
    state_and_gradient = 4 * 4 * 3_000  # at least four floats for each of 3,000 parameters
    assert state_and_gradient / 8 < trained.peak_memory_bytes < 50e6


def test_memory_is_the_devices_own_count_where_it_has_one(monkeypatch):
    monkeypatch.setattr(steps.memory, "peak_bytes", lambda: 12345)
    speed = _measure(0.0)
    assert (speed.peak_memory_bytes, speed.memory_counted_by) == (12345, "device")


def _measure(duration, images=16):
    """Measures a step that does nothing but last."""

    def step(state):
        time.sleep(duration)
        return state + 1, np.float32(state)

    use = {"argument": 40, "output": 20, "alias": 16, "temp": 5, "generated_code": 1}
    use = SimpleNamespace(**{f"{name}_size_in_bytes": size for name, size in use.items()})
    executable = SimpleNamespace(memory_analysis=lambda: use, cost_analysis=lambda: None)
    lowered = SimpleNamespace(compile=lambda: executable)
    return steps.measure(
        steps.Work(
            experiment=workload.random_experiment(_config()),
            program=SimpleNamespace(lower=lambda *_: lowered),
            step=step,
            state=jnp.zeros(()),
            batch={},
            images=images,
            forward_passes=1,
        ),
        0.1,
        time.perf_counter(),
    )


def test_rate_and_milliseconds_are_those_of_a_step_of_known_duration():
    speed = _measure(0.02, images=10)
    assert 350 < speed.images_per_second <= 500
    assert 20 <= speed.step_ms.min <= speed.step_ms.median <= speed.step_ms.max < 100
    assert 3 <= speed.steps <= 6
    assert speed.bytes_accessed is None
    found = json.loads(speed.to_json(), parse_constant=pytest.fail)  # NaN is no JSON
    assert found["bytes_accessed"] is None
    assert found["versions"]["jax"] == jax.__version__
    assert speed.peak_memory_bytes == 40 + 20 - 16 + 5 + 1


def test_inference_counts_one_forward_pass_of_the_batch_asked_for():
    config = _config()
    asked, default = benchmark_infer(config, 0.01, 8), benchmark_infer(config, 0.01)
    assert (asked.batch, default.batch) == (8, 24)
    experiment = workload.random_experiment(config)
    assert default.flops_per_image == summarize(experiment.model, (8, 8)).flops


def test_figures_of_inference_are_those_of_the_program_that_ran():
    """Whose devices have an eighth of the parameters each, and gather them."""
    config = _config(mesh={"fsdp": 8})
    work = inference_work(workload.random_experiment(config))
    ran = work.program.lower(work.state, work.batch).compile()
    found = benchmark_infer(config, 0.01, 24)
    assert found.memory_counted_by == "compiled program"
    assert found.peak_memory_bytes == memory.bytes_of_program(ran)
    assert found.bytes_accessed == (ran.cost_analysis() or {})["bytes accessed"]
    arguments = ran.memory_analysis().argument_size_in_bytes
    assert arguments < 0.5 * trees.nbytes((work.state, work.batch))


def test_inference_does_not_ask_what_training_asks_of_its_batch():
    config = runs.tiny_config(batch=12, batch_eval=8)  # eight devices: 12 could not be trained
    assert benchmark_infer(config, 0.01).batch == 8
    with pytest.raises(ConfigError, match=r"config\.batch=12"):
        benchmark_train(config, 0.01)


def test_batches_are_of_the_form_that_the_pipeline_makes(tmp_path):
    """Else the step that is measured would not be the one that `train` compiles."""
    experiment = workload.random_experiment(_config())

    def form(batch):
        return {n: (x.shape, x.dtype, x.sharding) for n, x in batch.items()}

    (fed,) = experiment.train.training(0, 1)
    made = workload.training_batch(experiment)
    assert form(made) == form(fed)
    assert form(workload.evaluation_batch(experiment)) == form(next(experiment.test.evaluation()))
    assert len(np.unique(np.asarray(made["image"]))) > 200
    with Store(tmp_path) as store:
        run, state = workload.start(experiment, store)
        assert type(run.step) is type(compiled(lambda s, b: (s, b), experiment.mesh, state))


def test_classes_are_the_settings_or_those_of_the_data():
    assert len(workload.random_experiment(_config(dataset="no/such")).class_names) == 7
    counted = workload.random_experiment(runs.tiny_config())
    assert len(counted.class_names) == len(build(runs.tiny_config()).class_names) == 10
    with pytest.raises(VitJaxError, match=r"no/such.*or give --config.num_classes=N"):
        workload.random_experiment(runs.tiny_config(dataset="no/such"))


def test_epochs_and_warm_up_need_no_data():
    config = _config(epochs=2.0, total_steps=None, warmup_steps=10_000)
    assert workload.random_experiment(config).total_steps == 10_001


def test_matrix_peak_counts_the_products_of_all_devices(monkeypatch):
    monkeypatch.setattr(peak.time, "perf_counter", iter(np.arange(0, 1000, 0.5)).__next__)
    mesh = runs.one_device_mesh()
    eight = workload.random_experiment(_config()).mesh
    one_product = 2 * 64**3
    for devices, on in ((1, mesh), (8, eight)):
        found = peak.matmul_peak(on, jax.numpy.dtype("float32"), 1.0)
        assert found == pytest.approx(devices * peak.CHAIN * one_product / 0.5)


def test_the_command_prints_json_and_tables(capsys):
    flags = ["--config=digits", "--seconds=0.01", "--config.num_classes=3", "--config.batch=16"]
    flags += ["--config.model.transformer.num_layers=1"]
    assert main(["benchmark", "train", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(found[key] > 0 for key in KEYS)
    assert main(["benchmark", "infer", *flags, "--batch=8"]) == 0
    said = capsys.readouterr().out
    for word in ("images/s", "step of 8 images", "16×16 px", "to the first step", "fraction"):
        assert word in said
