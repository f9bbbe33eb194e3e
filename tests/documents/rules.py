"""Which test runs which command of the documents, and which commands no test runs.

Those without a rule are run as they are written: requests with `curl` by tests/server/test_documented_requests.py, all
others by tests/cli/test_documented_commands.py. The tutorial is typed as a whole by test_tutorial.py.
"""

from __future__ import annotations

import re
from itertools import groupby

from tests.documents.commands import INSTRUCTIONS, Command, commands_of

# Pattern of the command, and the test below tests/ that runs it: with small data, often with a part of the options
ELSEWHERE = (
    # Of main.py
    (
        r"main\.py (study|ablate) .*--folds|main\.py ablate",
        "experiments/test_nested.py::test_the_commands_print_the_same_json",
    ),
    (r"main\.py study", "cli/test_train.py::test_a_study_writes_a_table_and_seven_figures"),
    (r"main\.py download", "download/test_command.py::test_a_real_selection_is_downloaded_completely"),
    (
        r"main\.py import-onnx|--compare Rival",
        "cli/test_exchange.py::test_another_programs_network_is_judged_and_evaluated",
    ),
    (r"main\.py export-onnx", "cli/test_exchange.py::test_out_and_in_again_without_options"),
    (r"main\.py export-bundle", "cli/test_exchange.py::test_a_bundle"),
    (r"monai\.bundle run", "learning/exchange/test_bundle.py::test_monai_alone_gives_the_same_pet"),
    (
        r"--compare KonfAI",
        "cli/test_evaluate_compare.py::test_another_program_is_compared_and_the_sentences_are_printed",
    ),
    (r"--labels (LABELS|OUT)", "cli/test_labels.py::test_organs_from_arrays_to_the_table"),
    (r"--tracking mlflow", "cli/test_train.py::test_a_finished_run_can_be_tracked_afterwards"),
    (r"cohort run https://.*--store", "cohort/test_pacs.py::test_results_are_stored_once_even_without_the_record"),
    (r"torchrun", "learning/test_torchrun.py::test_a_lost_node_comes_back_and_the_weights_are_those_of_one_process"),
    # On Ray
    (
        r"ray start|export RAY|RAY_ADDRESS=|--engine ray://",
        "cohort/test_ray_machines.py::test_a_stopped_driver_finishes_what_was_begun_and_another_goes_on_from_elsewhere",
    ),
    (
        r"main\.py cohort run .*--engine ray",
        "cohort/test_killed.py::test_ray_with_killed_driver_and_worker_gives_the_files_of_local",
    ),
    # The server
    (
        r"scripts/serve .*(--dicom-port|--peers)",
        "server/test_dicom_node.py::test_a_real_ct_comes_back_as_one_pet_whatever_crashes_or_is_away",
    ),
    (r"scripts/serve .*--expose", "scripts/test_serve.py::test_with_accounts_and_tls_the_network_can_connect"),
    (r"scripts/serve https://", "server/test_clinical_loop.py::test_the_clinical_loop"),
    (r"scripts/serve .*--port 810", "documents/test_commands.py::test_scripts_serve_gets_the_options_of_the_documents"),
    (
        r"scripts/serve STUDIES|scripts/serve ct2pet-demo",
        "documents/test_commands.py::test_scripts_serve_gets_the_options_of_the_documents",
    ),
    (r"ct2pet app-folder", "test_wheel.py::test_monai_label_starts_its_app"),
    (r"monailabel start_server", "server/test_phantoms.py::test_an_uploaded_model_is_used"),
    (r"server=https|read -rs|curl --cacert", "server/test_accounts.py::test_the_commands_of_the_guide_log_in"),
    # Scripts
    (
        r"scripts/demo",
        "scripts/test_demo.py::test_the_demonstration_trains_and_shows_a_patient_whom_it_was_not_trained_on",
    ),
    (r"scripts/ablate", "experiments/test_nested.py::test_the_script_of_a_bare_machine_prints_the_table"),
    (
        r"scripts/cross-validate-konfai",
        "scripts/test_cross_validate_konfai.py::test_every_patient_is_measured_out_of_fold_and_no_training_is_repeated",
    ),
    (
        r"scripts/compare-konfai",
        "scripts/test_compare_konfai.py::test_a_full_run_on_phantoms_predicts_the_test_patient_and_is_not_repeated",
    ),
    (r"scripts/docs", "documents/test_site.py::test_every_document_is_a_page"),
    (
        r"pip wheel|python3.12 -m|pip install (path|\.)",
        "test_wheel.py::test_the_wheel_requires_what_requirements_txt_pins",
    ),
    (r"^ct2pet ", "test_wheel.py::test_a_ct_is_synthesized_without_the_repository"),
    (r"scripts/benchmark", "scripts/test_benchmark.py::test_a_part_with_the_real_server_is_measured"),
)

# No test runs these, for the reason given
NOT_RUN = (
    (r"tensorboard|mlflow ui", "starts the server of another project; test_tracking.py reads what it would show"),
    (r"sbatch|srun", "needs SLURM"),
    (r"podman|export ORTHANC_PASSWORD|install .*/etc/ct2pet", "needs a container engine"),
    (r"kubectl", "needs a Kubernetes cluster"),
    (r"scripts/(test|coverage|check)", "runs this test, or is run before it"),
    (r"pre-commit install", "changes the repository's own hooks"),
    (r"pip install --user", "is what users should not do"),
    (
        r"pip install -r requirements",
        "downloads 2 to 5 GB; scripts/environment, which CI runs, installs the same packages",
    ),
)

COMMANDS = [command for document in INSTRUCTIONS for command in commands_of(document)]


def blocks(*, of_requests: bool) -> dict[str, list[Command]]:
    """Return the commands without a rule by their block, either those that send requests to a server or all others.

    A block whose commands are all in an earlier one is left out.
    """
    ruled = re.compile("|".join(pattern for pattern, _ in (*ELSEWHERE, *NOT_RUN)))
    request = re.compile(r"curl .*http://127\.0\.0\.1:8000")
    found = [one for one in COMMANDS if not ruled.search(one.text) and bool(request.match(one.text)) == of_requests]
    seen: set[str] = set()
    chosen = {}
    for block, members in groupby(found, lambda one: one.block):
        commands = list(members)
        texts = {command.text.removeprefix("python ") for command in commands}
        if not texts <= seen:
            chosen[block] = commands
            seen |= texts
    return chosen
