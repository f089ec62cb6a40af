"""One thread, as the tensors are small and tests may run side by side; and which tests are slow."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# Kernels run in Triton's interpreter, on the CPU; Triton reads this when it is first imported.
os.environ["TRITON_INTERPRET"] = "1"

TESTS = Path(__file__).parent

SLOW = (
    "contracts/test_imports.py::test_importing_harope_loads_nothing_heavier_than_torch",
    "contracts/test_imports.py::test_models_and_integrations_load_nothing_heavier_than_torch",
    "golden",
    "integration",
    "parity",
    "properties",
    "soak",
    "unit/benchmarks",
    "unit/_utils/test_folder_lock.py::test_a_locked_folder_is_refused_and_the_holder_named",
    "unit/_utils/test_folder_lock.py::test_the_lock_of_a_killed_process_is_taken_over",
    "unit/_utils/test_json_files.py::test_parsing_needs_no_pydantic",
    "unit/cli/test_bad_input.py",
    "unit/cli/test_missing_packages.py",
    "unit/cli/test_plan.py",
    "unit/cli/test_sample.py",
    "unit/cli/test_synonyms.py::test_answers_name_options_that_exist",
    "unit/cli/test_train.py",
    "unit/diffusion/test_sampling.py::test_importing_the_package_does_not_import_diffusers",
    "unit/docs/test_snippets.py",
    "unit/integrations/test_tools.py::test_torch_export_gives_the_same_output",
    "unit/integrations/test_serialization.py::test_what_was_saved_is_read_into_another_model",
    "unit/integrations/test_forward.py::test_several_sizes_before_one_backward_under_checkpointing",
    "unit/lab/analysis/test_inspection.py",
    "unit/lab/analysis/test_load.py",
    "unit/lab/bench",
    "unit/lab/data/latents/test_encode.py::test_two_processes_cannot_write_one_folder",
    "unit/lab/evals/test_resolutions.py",
    "unit/lab/experiments",
    "unit/lab/plan",
    "unit/lab/recipes/test_own.py",
    "unit/lab/sampling/test_text_to_image_runs.py::test_options_change_the_images_and_are_described",
    "unit/lab/reporting/test_curves.py",
    "unit/lab/scenes/test_ceiling.py",
    "unit/lab/scenes/test_reader.py::test_importing_scenes_does_not_load_scipy",
    "unit/lab/scenes/test_reader.py::test_reader_is_exact_on_clean_pictures",
    "unit/lab/scenes/test_reader.py::test_reader_is_exact_on_six_shapes",
    "unit/lab/training/test_initial_weights.py",
    "unit/lab/training/test_muon.py::test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit",
    "unit/lab/training/test_publish.py",
    "unit/lab/training/test_trackers.py::test_a_training_logs_what_its_metrics_file_has",
    "unit/lab/training/test_trackers.py::test_a_training_without_trackers_writes_metrics_alone",
    "unit/lab/training/test_validation.py",
    "unit/models/dit/test_model.py::test_harope_adds_two_generators_and_the_scales_of_every_head",
    "unit/models/test_compile.py",
    "unit/models/test_fake_cuda.py",
    "unit/rope/test_export.py::test_a_program_has_no_region_for_autocast_that_is_not_enabled",
    "unit/rope/_fast/test_exponential.py::test_the_operator_keeps_its_promises_to_compilers",
    "unit/rope/_fast/test_folded_linear.py::test_first_and_second_derivatives",
    "unit/rope/_fast/test_folded_linear.py::test_layers_folded_as_one_have_first_and_second_derivatives",
    "unit/rope/_fast/test_precision.py::test_the_operator_keeps_its_promises_to_compilers",
    "unit/rope/_fast/test_dispatch.py::test_kernels_are_used_where_the_shapes_fit",
    "unit/rope/_fast/test_dispatch.py::test_queries_alone_are_rotated_by_the_kernel",
    "unit/rope/_fast/triton/test_fallback.py::test_formulas_give_the_outputs_and_gradients_of_the_kernels",
    "unit/rope/_fast/triton/test_qk_norm.py::test_a_program_may_walk_over_several_blocks",
    "unit/rope/_fast/triton/test_qk_norm.py::test_the_operator_keeps_its_promises_to_compilers",
    "unit/rope/_fast/triton/test_qk_norm.py::test_values_and_gradients_are_the_formula_rounded",
    "unit/rope/_fast/triton/test_rotate.py::test_gradients_reach_queries_keys_and_tables",
    "unit/rope/_fast/triton/test_rotate.py::test_second_derivatives",
    "unit/rope/_fast/triton/test_rotate.py::test_the_operator_keeps_its_promises_to_compilers",
    "unit/rope/_fast/triton/test_rotate.py::test_values_are_the_formula_rounded",
    "unit/rope/test_cached.py::test_an_export_inside_a_scope_follows_the_weights",
    "unit/rope/test_cached.py::test_compiled_encodings_do_not_depend_on_a_scope",
    "unit/rope/test_export.py::test_a_saved_program_loads_and_computes_the_same",
    "unit/scripts/test_scale.py",
)
"""Folders, files and tests that train, start processes, compile, load large libraries or interpret
GPU kernels: what takes longest by `pytest --durations`. Others have `@pytest.mark.slow`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test slow by where it is, and fast if it is neither slow nor gpu."""
    for item in items:
        path = item.path.relative_to(TESTS)
        name = f"{path.as_posix()}::{item.name.partition('[')[0]}"
        if name in SLOW or any(path.is_relative_to(place) for place in SLOW):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        if not {"slow", "gpu"} & {marker.name for marker in item.iter_markers()}:
            item.add_marker(pytest.mark.fast)


@pytest.fixture
def annotations_unchecked() -> Iterator[None]:
    """Run as users do, without the checks of annotations that would catch bad arguments first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
