"""The configuration: what is read, where from, and that every problem is told with its key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneself.config import ApiClient, Input, Workspace, load
from oneself.config.check import TEXT_KEYS, check
from oneself.errors import ConfigError
from oneself.identity import PolicySettings, build

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"

MINIMAL = """
[[workspace]]
id = 1
name = "shop"

[[input]]
workspace = "shop"
name = "web"
kind = "web"
key = "web-key"
"""


@pytest.fixture
def write(tmp_path):
    def write_config(text: str) -> Path:
        path = tmp_path / "oneself.toml"
        path.write_text(text, "utf-8")
        return path

    return write_config


def problems_of(path: Path, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    assert str(caught.value).count("\n") == len(caught.value.problems) - 1, "one line for each problem"
    return caught.value.problems


# -- what is read -----------------------------------------------------------------------------------------------


def test_a_minimal_configuration_gets_the_documented_defaults(write):
    config = load(write(MINIMAL), {})
    assert config.workspaces == (Workspace(1, "shop", 1, 1, "shop"),)
    assert config.inputs == (Input("shop", "web", "web", "web-key", "", True, "create_and_update"),)
    assert config.inputs[0].id == "shop/web"
    assert (config.data, config.database, config.api_clients) == (None, None, ())
    assert config.scopes == {"shop": PolicySettings()}
    assert config.policies == {"shop": build()}


def test_the_example_of_the_page_loads(tmp_path):
    example = re.search(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert example
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "till").write_text("till-secret\r\n")
    path = tmp_path / "oneself.toml"
    path.write_text(example[1], "utf-8")
    config = load(path, {"SHOP_IOS_SECRET": "ios-secret", "PERSONALISATION_SECRET": "p"})
    assert config.database == "postgresql://user@host/oneself"
    assert [one.secret for one in config.inputs] == ["", "ios-secret", "till-secret"]
    assert [one.key_only for one in config.inputs] == [True, False, False]
    assert config.api_clients == (ApiClient("personalisation", "p", ("shop", "outlet"), ("profile:read",)),)
    assert set(config.policies) == {"acme"}
    assert config.policies["acme"].on_logout == "return_anonymous"
    assert "walk-in customer" in config.policies["acme"].junk


@pytest.mark.parametrize("struct", [Workspace, Input, ApiClient, PolicySettings])
def test_every_key_is_explained_in_its_table_of_the_page(struct):
    page = DOCS.read_text("utf-8")
    for field in msgspec.structs.fields(struct):
        assert f"| `{field.encode_name}` |" in page, f"{field.encode_name} is missing in docs/configuration.md"


def takes_text_only(type_: object) -> bool:
    parts = [part for part in get_args(type_) or [type_] if part is not type(None)]
    return all(part is str or isinstance(part, str) or get_origin(part) is Literal for part in parts)


def test_the_keys_that_take_strings_only_are_those_of_the_structs():
    text = {
        field.name
        for struct in (Workspace, Input, ApiClient, PolicySettings)
        for field in msgspec.structs.fields(struct)
        if takes_text_only(field.type)
    }
    assert text | {"data", "database"} == TEXT_KEYS


def test_a_byte_order_mark_is_no_problem(tmp_path):
    path = tmp_path / "oneself.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(path, {}).workspaces


def test_a_data_folder_is_relative_to_the_file_and_by_environment_to_the_working_directory(write):
    path = write('data = "kept"\n' + MINIMAL)
    assert load(path, {}).data == path.parent / "kept"
    assert load(path, {"ONESELF_DATA": "elsewhere"}).data == Path("elsewhere")


def test_secrets_show_in_no_representation(write):
    text = MINIMAL + 'secret = "hidden-1"\n[[api_client]]\nclient_id = "c"\nclient_secret = "hidden-2"\n'
    text = 'database = "postgresql://u:hidden-3@h/d"\n' + text + 'workspaces = ["shop"]\npermissions = ["admin"]\n'
    config = load(write(text), {})
    assert (config.inputs[0].secret, config.api_clients[0].client_secret) == ("hidden-1", "hidden-2")
    for value in (config, config.inputs[0], config.api_clients[0]):
        assert "hidden" not in repr(value)
        assert "hidden" not in f"{value}"
    assert "key='web-key'" in repr(config)


# -- secrets kept elsewhere -----------------------------------------------------------------------------------


def test_a_value_may_point_to_a_variable_or_a_file(write, tmp_path):
    (tmp_path / "key").write_text("from-file\n")
    path = write(MINIMAL.replace('"web-key"', '"file:key"\nsecret = "env:S"'))
    config = load(path, {"S": "env:not-followed-again"})
    assert (config.inputs[0].key, config.inputs[0].secret) == ("from-file", "env:not-followed-again")


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("env:NOPE", "'NOPE', which is not set"),
        ("env:EMPTY", "'EMPTY', which is empty"),
        ("file:nope", "nope, which cannot be read: No such file or directory"),
        ("file:.", "which cannot be read: Is a directory"),
        ("file:empty", "which is empty"),
        ("file:binary", "which is not UTF-8 text"),
        ("file:nul\\u0000", "which cannot be read"),
        ("", "is empty"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_once(write, tmp_path, secret, told):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    found = problems_of(write(MINIMAL + f'secret = "{secret}"\nkey_only = false\n'), {"EMPTY": ""})
    assert [key for key, _ in found] == ["input[0].secret"]
    assert told in found[0][1]


# -- the environment ------------------------------------------------------------------------------------------


def test_each_key_can_be_given_by_environment(write):
    config = load(
        write(MINIMAL),
        {
            "ONESELF_DATABASE": "postgresql://h/d",
            "ONESELF_WORKSPACE__0__SCOPE": "acme",
            "ONESELF_SCOPE__ACME__STRATEGY": "profile_link",
            "ONESELF_SCOPE__ACME__PRIORITY": '["customerid", "email"]',
            "ONESELF_SCOPE__ACME__MAX_VALUES_PER_PROFILE": "7",
            "ONESELF_INPUT__0__KEY": '"quoted"',
            "ONESELF_INPUT__0__KEY_ONLY": "false",
            "ONESELF_INPUT__0__SECRET": "12345",
            "ONESELF_API_CLIENT__0__CLIENT_ID": "c",
            "ONESELF_API_CLIENT__0__CLIENT_SECRET": "env:ELSEWHERE",
            "ONESELF_API_CLIENT__0__WORKSPACES": '["shop"]',
            "ONESELF_API_CLIENT__0__PERMISSIONS": '["admin"]',
            "ELSEWHERE": "there",
        },
    )
    assert config.database == "postgresql://h/d"
    assert config.scopes["acme"].strategy == "profile_link"
    assert config.policies["acme"].priority == ("customerid", "email")
    assert config.policies["acme"].max_values_per_profile == 7
    assert config.inputs == (Input("shop", "web", "web", "quoted", "12345", False, "create_and_update"),)
    assert config.api_clients == (ApiClient("c", "there", ("shop",), ("admin",)),)


def test_a_whole_configuration_can_come_from_the_environment(write):
    environ = {f"ONESELF_WORKSPACE__{n}__{key}": value for n in range(12) for key, value in
               {"ID": str(n + 1), "NAME": f"w{n}"}.items()}  # fmt: skip
    assert [one.name for one in load(write(""), environ).workspaces] == [f"w{n}" for n in range(12)]


@pytest.mark.parametrize("scope", ["Acme", "acme-eu", "acme.eu"])
@pytest.mark.parametrize("section", ["", '\n[scope."{}"]\nstrategy = "default"\n'])
def test_a_scope_is_meant_in_any_case_and_with_underscores(write, scope, section):
    text = MINIMAL.replace('name = "shop"\n\n', f'name = "shop"\nscope = "{scope}"\n\n') + section.format(scope)
    variable = f"ONESELF_SCOPE__{re.sub('[-.]', '_', scope).upper()}__STRATEGY"
    assert load(write(text), {variable: "best_match"}).scopes[scope].strategy == "best_match"


def test_an_empty_variable_and_those_of_others_are_left_alone(write):
    environ = {
        "ONESELF_DATABASE": "",
        "ONESELF_SERVICE_HOST": "10.0.0.1",
        "ONESELF_PORT_80_TCP": "tcp://x",
        "A__B": "1",
    }
    assert load(write(MINIMAL), environ) == load(write(MINIMAL), {})


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("ONESELF_INPUTS__0__KEY", "did you mean input?"),
        ("ONESELF_INPUT__KEY", "write ONESELF_INPUT__0__KEY"),
        ("ONESELF_INPUT__5__KEY", "without a gap"),
        ("ONESELF_INPUT", "write ONESELF_INPUT__0__KEY"),
        ("ONESELF_SCOPE__SHOP", "write ONESELF_SCOPE__NAME__KEY"),
        ("ONESELF_SCOPE____STRATEGY", "write ONESELF_SCOPE__NAME__KEY"),
    ],
)
def test_a_variable_that_names_no_key_is_told(write, variable, told):
    ((key, message),) = problems_of(write(MINIMAL), {variable: "x"})
    assert key == variable
    assert told in message


def test_a_problem_names_the_variable_that_made_it(write):
    ((key, message),) = problems_of(write(MINIMAL), {"ONESELF_INPUT__0__KIND": "wbe"})
    assert key == "input[0].kind"
    assert "did you mean web?" in message
    assert "ONESELF_INPUT__0__KIND" in message


@pytest.mark.parametrize("value", ["[" * 5000, "1\nx = 2", "1" * 5000, "{", '"', "2024-01-01"])
def test_no_value_of_a_variable_breaks_the_reading(write, value):
    found = problems_of(write(MINIMAL), {"ONESELF_SCOPE__SHOP__MAX_VALUES_PER_PROFILE": value})
    assert [key for key, _ in found] == ["scope.shop.max_values_per_profile"]


# -- problems -------------------------------------------------------------------------------------------------


def test_every_problem_is_told_at_once(write):
    text = """
    databse = "x"
    data = "a"
    database = "mysql://x"
    [[workspace]]
    id = 0
    name = "a/b"
    [[workspace]]
    id = 3
    name = "shop"
    organisation = 2
    [[workspace]]
    id = 3
    name = "shop"
    [[input]]
    workspace = "shp"
    name = "w"
    kind = "wbe"
    key = "a b"
    [[input]]
    workspace = "shop"
    name = "s"
    kind = "server"
    key = "k"
    [[input]]
    workspace = "shop"
    name = "s"
    kind = "server"
    key = "k"
    secret = 5
    key_only = "yes"
    [[api_client]]
    client_secret = "x"
    workspaces = []
    permissions = ["profile:raed", "admin", "admin"]
    [scope.shop]
    strategy = "profile_isolaton"
    prioritty = []
    priority = ["emial", "customerid"]
    login = "email"
    alias_delay = 1.5
    alias_window = "91d"
    phone_region = "usa"
    max_values_per_profile = -1
    """
    found = problems_of(write(text))
    assert sorted({key for key, _ in found}) == sorted({
        "databse", "database", "workspace[0].id", "workspace[0].name", "workspace[1].organisation",
        "workspace[2].id", "workspace[2].name", "input[0].workspace", "input[0].kind", "input[0].key",
        "input[1].secret", "input[2].name", "input[2].key", "input[2].secret", "input[2].key_only",
        "api_client[0].client_id", "api_client[0].workspaces", "api_client[0].permissions", "scope.shop.strategy",
        "scope.shop.prioritty", "scope.shop.priority", "scope.shop.login", "scope.shop.alias_delay",
        "scope.shop.alias_window", "scope.shop.phone_region", "scope.shop.max_values_per_profile",
    })  # fmt: skip
    told = dict(found)
    assert "did you mean database?" in told["databse"]
    assert "did you mean organization?" in told["workspace[1].organisation"]
    assert "did you mean priority?" in told["scope.shop.prioritty"]
    assert "did you mean email?" in told["scope.shop.priority"]
    assert "did you mean profile_isolation?" in told["scope.shop.strategy"]
    assert "must be a list, not a string" in told["scope.shop.login"]


W = '[[workspace]]\nid = 1\nname = "shop"\n'
SERVER = '[[input]]\nworkspace = "shop"\nname = "s"\nkind = "server"\nkey = "k"\nsecret = "s"\n'
CLIENT = '[[api_client]]\nclient_id = "c"\nclient_secret = "s"\nworkspaces = ["shop"]\npermissions = ["admin"]\n'


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        ("", "workspace", "is missing; at least one [[workspace]]"),
        ("workspace = []", "workspace", "is missing"),
        ("workspace = 1", "workspace", "write [[workspace]]"),
        ("workspace = [1]", "workspace[0]", "must be a table, not a whole number"),
        ('[workspace]\nid = 1\nname = "shop"', "workspace", "write [[workspace]]"),
        ('[[workspace]]\nname = "shop"', "workspace[0].id", "is missing"),
        ("[[workspace]]\nid = 1", "workspace[0].name", "is missing"),
        ('[[workspace]]\nid = true\nname = "shop"', "workspace[0].id", "not true or false"),
        (f'[[workspace]]\nid = {2**63}\nname = "shop"', "workspace[0].id", "whole number from 1"),
        (f'[[workspace]]\nid = 1\nname = "{"x" * 65}"', "workspace[0].name", "1 to 64"),
        ('[[workspace]]\nid = 1\nname = "shöp"', "workspace[0].name", "1 to 64"),
        ('[[workspace]]\nid = 1\nname = "shop\\n"', "workspace[0].name", "1 to 64"),
        (W + "account = 0", "workspace[0].account", "from 1"),
        (W + "organization = 1.5", "workspace[0].organization", "not a fraction"),
        (W + 'scope = ""', "workspace[0].scope", "1 to 64"),
        (W + W.replace("1", "2"), "workspace[1].name", "the same as workspace[0].name"),
        (W + W.replace("shop", "b"), "workspace[1].id", "the same as workspace[0].id"),
        (W + 'scope = "x"\n[[workspace]]\nid = 2\nname = "b"\norganization = 2\nscope = "x"',
         "workspace[1].organization", "workspaces of one scope share"),
        (W + SERVER.replace('"shop"', '"Shop"'), "input[0].workspace", "did you mean shop?"),
        (W + SERVER.replace('secret = "s"', ""), "input[0].secret", "needed unless key_only = true"),
        (W + SERVER + "key_only = 1", "input[0].key_only", "must be true or false, not a whole number"),
        (W + SERVER + 'protection = "none"', "input[0].protection", "Allowed: create_and_update, only_update"),
        *((W + SERVER.replace('"k"', f'"a{c}b"'), "input[0].key", "without space and / : ? # %") for c in "/:?#% "),
        (W + SERVER.replace('"k"', '""'), "input[0].key", "1 to 128"),
        (W + SERVER.replace('"k"', f'"{"k" * 129}"'), "input[0].key", "1 to 128"),
        (W + SERVER + SERVER.replace('"s"', '"t"'), "input[1].key", "the same as input[0].key"),
        (W + SERVER + SERVER.replace('"k"', '"l"'), "input[1].name", "the same as input[0].name"),
        (W + CLIENT + CLIENT, "api_client[1].client_id", "the same as api_client[0].client_id"),
        (W + CLIENT.replace('["shop"]', '["shop", "shop"]'), "api_client[0].workspaces", "twice"),
        (W + CLIENT.replace('["shop"]', '"shop"'), "api_client[0].workspaces", "a list, not a string"),
        (W + CLIENT.replace('["admin"]', "[1]"), "api_client[0].permissions", "but has a whole number"),
        (W + CLIENT.replace('secret = "s"', 'secret = ""'), "api_client[0].client_secret", "is empty"),
        (W + "[scope.shpo]", "scope.shpo", "did you mean shop?"),
        ("scope = 1\n" + W, "scope", "write [scope.NAME]"),
        (W + "[scope]\nshop = 1", "scope.shop", "must be a table"),
        (W + '[scope.shop]\npriority = ["email"]', "scope.shop.login", "comes from the strategy default"),
        (W + "[scope.shop]\npriority = []", "scope.shop.priority", "at least one"),
        (W + '[scope.shop]\nalias_delay = "soon"', "scope.shop.alias_delay", "24h"),
        (W + "[scope.shop]\nalias_delay = 2020-01-01", "scope.shop.alias_delay", "must be a duration"),
        (W + '[scope.shop]\nimmutable = ["email"]', "scope.shop.immutable", "must also be in login"),
        (W + "[scope.shop]\njunk = [1]", "scope.shop.junk", "list of strings"),
        (W + "[scope.shop]\nmax_known_profiles_per_value = 9999999999",
         "scope.shop.max_known_profiles_per_value", "0 to 1000000000"),
        ('data = ""\n' + W, "data", "is empty"),
        ("data = 1\n" + W, "data", "must be a string"),
        ('data = "d"\ndatabase = "postgresql://h/d"\n' + W, "database", "together with data"),
        ('database = "h/d"\n' + W, "database", "postgresql://"),
        ('"a b" = 1\n' + W, '"a b"', "is no key"),
    ],
)  # fmt: skip
def test_a_problem_is_told_with_its_key_and_alone(write, text, key, told):
    ((found, message),) = problems_of(write(text))
    assert found == key
    assert told in message


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(PolicySettings)])
def test_every_setting_of_a_scope_is_checked(write, field):
    ((key, _),) = problems_of(write(W + f"[scope.shop]\n{field} = {{}}"))
    assert key == f"scope.shop.{field}"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates()
    | st.sampled_from(["shop", "web", "server", "default", "best_match", "email", "customerid", "24h", "admin", 1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


def tables(struct: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from([*struct.__struct_encode_fields__, "else"]), VALUES, max_size=7)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "data": VALUES,
            "database": VALUES,
            "workspace": st.lists(tables(Workspace), max_size=3) | VALUES,
            "input": st.lists(tables(Input), max_size=3) | VALUES,
            "api_client": st.lists(tables(ApiClient), max_size=2) | VALUES,
            "scope": st.dictionaries(st.sampled_from(["shop", "x"]), tables(PolicySettings), max_size=2) | VALUES,
        },
    )
)
def test_any_document_is_a_configuration_or_has_problems(document):
    problems: list[tuple[str, str]] = []
    config = check(document, problems)
    assert (config is None) == bool(problems)
    assert all(key and message.endswith((".", ")")) for key, message in problems), problems


def test_problems_show_no_secret(write):
    text = W + SERVER.replace('"s"\n', '"tell-nobody"\n').replace("secret", "sekret") + 'secret = ["tell-nobody"]\n'
    text = 'database = "tell-nobody"\n' + text
    with pytest.raises(ConfigError) as caught:
        load(write(text), {})
    assert "tell-nobody" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "key", "told"),
    [
        (b"a = 1\nb = \n", "line 2, column 5", "is not valid TOML"),
        (b"[[workspace]]\nid = 1\nid = 2\n", "line 3, column 7", "Cannot overwrite"),
        (b"a = [", "end of document", "is not valid TOML"),
        (b"a = 1\nb = '\xff'\n", "line 2", "is not UTF-8"),
        (b"a = " + b"[" * 100_000, "file", "is not valid TOML"),
        (b"a = " + b"1" * 5000, "file", "is not valid TOML"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(tmp_path, content, key, told):
    path = tmp_path / "oneself.toml"
    path.write_bytes(content)
    ((found, message),) = problems_of(path)
    assert found == key
    assert told in message


@pytest.mark.parametrize("name", ["nope.toml", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path, name):
    ((key, message),) = problems_of(tmp_path / name)
    assert key == "file"
    assert "cannot be read" in message
