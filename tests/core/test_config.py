"""Settings: a wrong one stops the program with one sentence; code and .env.example agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES
from pydantic import ValidationError

from config import Settings, env_example, load_settings, require
from errors import ConfigError
from system import languages

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"S3_ENDPOINT": "https://s3.example.org", "S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "secret"}


def test_only_the_s3_settings_are_required_and_the_rest_has_the_documented_defaults():
    settings = load_settings(NEEDED)
    assert settings.scratch_root == Path("/data/scratch")
    assert settings.models_root == Path("/data/models")
    assert settings.s3_bucket == "audio-archives"
    assert settings.transcribe_queue == "queue:transcribe"
    assert settings.batch_size == 16


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_missing_setting_is_named_with_an_example(name):
    environ = {key: value for key, value in NEEDED.items() if key != name}
    with pytest.raises(ConfigError, match=rf"^{name} is not set .*for example {name}="):
        load_settings(environ)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("REDIS_PORT", "redis", "it must be a number"),
        ("REDIS_PORT", "70000", "a port lies between"),
        ("BATCH_SIZE", "0", "1 or more"),
        ("SCRATCH_ROOT", "scratch", "an absolute path"),
        ("S3_ENDPOINT", "s3.example.org", "http:// or https://"),
        ("S3_ENDPOINT", "https://s3.example.org/bucket", "without a path"),
        ("TRANSCRIBE_QUEUE", "transcribe", "queue:transcribe"),
        ("DEVICE", "gpu", "auto, cuda or cpu"),
        ("HEARTBEAT_TTL_S", "soon", "it must be a number"),
        ("HEARTBEAT_TTL_S", "nan", "above 0"),
        ("JUDGED_LANGUAGES", "english", "it must be ISO 639-1 codes with commas between them, or * for all"),
        ("JUDGED_LANGUAGES", "en,eng", "ISO 639-1 codes"),
        ("JUDGED_LANGUAGES", "en,,es", "ISO 639-1 codes"),
        ("JUDGED_LANGUAGES", "", "ISO 639-1 codes"),
        ("JUDGED_LANGUAGES", "en-US", "ISO 639-1 codes"),
        ("OTHER_LANGUAGES", "drop", "one of record or translate"),
        ("REUSE_VERDICTS", "yes", "true or false"),
    ],
)
def test_a_malformed_setting_is_named_with_value_reason_and_example(name, value, reason):
    with pytest.raises(ConfigError) as caught:
        load_settings({**NEEDED, name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is {value!r}")
    assert reason in message
    assert f"for example {name}=" in message


def test_the_judged_languages_are_codes_and_english_by_default():
    assert load_settings(NEEDED).judged_language_codes == frozenset({"en"})
    assert load_settings({**NEEDED, "JUDGED_LANGUAGES": "en, es ,yue"}).judged_language_codes == frozenset(
        {"en", "es", "yue"}
    )
    assert load_settings({**NEEDED, "JUDGED_LANGUAGES": "*"}).judged_language_codes is None


def test_every_language_of_the_speech_model_can_be_judged():
    assert frozenset(_LANGUAGE_CODES) == languages.CODES


def test_secrets_may_come_as_systemd_credentials(tmp_path):
    (tmp_path / "s3_secret_key").write_text("from-a-file\n")
    environ = {key: value for key, value in NEEDED.items() if key != "S3_SECRET_KEY"}
    assert load_settings({**environ, "CREDENTIALS_DIRECTORY": str(tmp_path)}).s3_secret_key == "from-a-file"


def test_a_credential_keeps_all_but_its_line_end_and_sets_only_secrets(tmp_path):
    (tmp_path / "postgres_password").write_text(" a b \n")
    (tmp_path / "postgres_host").write_text("elsewhere\n")
    settings = load_settings({**NEEDED, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (settings.postgres_password, settings.postgres_host) == (" a b ", "localhost")


def test_neither_lower_case_nor_an_env_file_nor_the_process_sets_anything(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("MAX_ATTEMPTS=9\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAX_ATTEMPTS", "8")
    assert load_settings({**NEEDED, "max_attempts": "7", "UNKNOWN": "1"}).max_attempts == 3


def test_an_empty_variable_is_an_empty_text_but_no_number_and_no_key():
    assert load_settings({**NEEDED, "S3_BUCKET": "", "SCRATCH_MOUNT": ""}).s3_bucket == ""
    with pytest.raises(ConfigError, match="REDIS_PORT is '', but it must be a number"):
        load_settings({**NEEDED, "REDIS_PORT": ""})
    with pytest.raises(ConfigError, match="S3_ACCESS_KEY is not set"):
        load_settings({**NEEDED, "S3_ACCESS_KEY": ""})


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(NEEDED).redis_host = "elsewhere"


def test_secrets_do_not_show_when_settings_are_printed():
    shown = repr(load_settings({**NEEDED, "REDIS_PASSWORD": "hush"}))
    assert "hush" not in shown
    assert "secret" not in shown.replace("s3_secret_key", "")


def test_what_one_worker_needs_is_demanded_by_that_worker_only():
    with pytest.raises(ConfigError, match="TRANSFER_SSH_HOST is not set"):
        require(load_settings(NEEDED), "transfer_ssh_host")


def test_the_host_name_is_safe_in_a_redis_key():
    assert load_settings({**NEEDED, "WORKER_HOST": "gpu 01:a"}).host == "gpu-01-a"


def test_env_example_is_up_to_date_and_names_every_setting():
    text = (ROOT / ".env.example").read_text()
    assert text == env_example(), "run: cd src && python config.py > ../.env.example"
    assert all(f"{name.upper()}=" in text for name in Settings.model_fields)


def test_only_config_reads_the_environment():
    # systemd sets NOTIFY_SOCKET, sudo SUDO_USER: neither is a setting of ours.
    allowed = {"config.py", "service_manager.py", "audit.py"}
    readers = [
        path.name
        for path in (ROOT / "src").rglob("*.py")
        if path.name not in allowed and ("os.environ.get" in path.read_text() or "os.getenv" in path.read_text())
    ]
    assert readers == []
