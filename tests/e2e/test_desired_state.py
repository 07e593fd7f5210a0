"""What a source asks for, as the commands of a person tell it."""

import json

from controller.model.run import Phase
from tests.e2e.controller_process import ON_CHANGE, ControllerProcess, manifest
from tests.source_places import Repository


def story(tmp_path, **more):
    repository = Repository(tmp_path / "ops")
    source = {"name": "ops", "kind": "Git", "url": repository.url, "interval": "1h"}
    (tmp_path / "rondel.yaml").write_text(json.dumps({"sources": [source | more]}))
    return repository, ControllerProcess(tmp_path, "--config", str(tmp_path / "rondel.yaml"))


def test_a_workflow_that_outlives_its_manifest_is_told_as_such_and_can_be_run(tmp_path, rondel):
    repository, controller = story(tmp_path, prune=False)
    repository.commit(one_yaml=manifest("one", "true", ON_CHANGE), keep_yaml=manifest("keep"))
    controller.start()
    try:
        controller.until(lambda: controller.runs(phases={Phase.SUCCEEDED}), "it has run")
        repository.git("rm", "--quiet", "one.yaml")
        repository.commit()
        assert rondel("reconcile", "ops", "--wait").returncode == 0
        controller.until(lambda: "Orphaned" in rondel("get", "workflows").stdout, "it is told")
        told = rondel("describe", "workflow", "one").stdout
        assert "PruneDisabled" in told
        assert "one.yaml doesn't declare it any more" in told
        assert "OutOfSync" in told
        assert "without a manifest: one" in rondel("describe", "source", "ops").stdout
        assert rondel("run", "one", "--wait").returncode == 0
        assert rondel("get", "workflow", "one", "-o", "json").returncode == 0
    finally:
        controller.stop()


def test_two_sources_of_the_same_folder_are_told_until_the_configuration_says_otherwise(
    tmp_path, rondel
):
    (tmp_path / "w" / "deep").mkdir(parents=True)
    (tmp_path / "w" / "deep" / "one.yaml").write_text(manifest("one"))
    config = tmp_path / "rondel.yaml"
    paths = {"all": "w", "part": "w/deep"}
    sources = [{"name": name, "kind": "Directory", "path": path} for name, path in paths.items()]
    config.write_text(json.dumps({"sources": sources}))
    controller = ControllerProcess(tmp_path, "--config", str(config)).start()
    try:
        shown = rondel("get", "sources").stdout
        assert "SharedManifests: read by part, too" in shown
        assert "SharedManifests: read by all, too" in shown
        config.write_text(json.dumps({"sources": sources[:1]}))
        controller.until(lambda: controller.events("reloaded"), "it is reloaded")
        controller.until(
            lambda: "SharedManifests" not in rondel("get", "sources").stdout, "nobody shares them"
        )
    finally:
        controller.stop()
