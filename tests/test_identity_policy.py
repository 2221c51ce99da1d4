"""Policies: what each preset means, what may be overridden, and what is refused at load."""

from __future__ import annotations

import pytest

from oneself.identity import DEFAULT_PRIORITY, IDENTITY_TYPES, PolicyError, PolicySettings, build
from oneself.identity.policy import parse_duration, settings_from


@pytest.mark.parametrize(
    ("strategy", "login", "immutable", "on_new_known", "on_logout"),
    [
        ("default", {"customerid"}, {"customerid"}, "convert", "create"),
        ("profile_conversion", {"customerid"}, set(), "convert", "create"),
        ("profile_link", {"customerid", "email"}, set(), "create", "create"),
        ("profile_isolation", {"customerid", "email"}, set(), "create", "return_anonymous"),
        ("best_match", set(), set(), "convert", "none"),
    ],
)
def test_a_preset_fills_in_the_whole_policy(
    strategy: str, login: set[str], immutable: set[str], on_new_known: str, on_logout: str
) -> None:
    policy = build(settings_from({"strategy": strategy}))
    assert policy.login == policy.unique == login
    assert policy.immutable == immutable
    assert (policy.on_new_known, policy.on_logout) == (on_new_known, on_logout)
    assert policy.priority == DEFAULT_PRIORITY
    assert (policy.max_known_profiles_per_value, policy.max_values_per_profile) == (20, 100)


def test_no_settings_at_all_are_the_default_preset() -> None:
    assert build() == build(PolicySettings(strategy="default"))


def test_the_default_priority_is_the_documented_order_with_its_groups_expanded() -> None:
    assert DEFAULT_PRIORITY == (
        "customerid", "mobile_number", "phone_number_2", "phone_number_3", "email", "other", "other2", "other3",
        "other4", "other5", "other6", "other7", "other8", "other9", "other10", "facebook", "google", "twitter",
        "microsoft", "yahoo", "ios_idfa", "ios_idfv", "android_aaid", "fire_aid", "android_uuid", "roku_aid",
        "roku_publisher_id", "microsoft_publisher_id", "microsoft_aid", "device_application_stamp",
    )  # fmt: skip


def test_every_part_of_a_preset_can_be_overridden() -> None:
    policy = build(
        PolicySettings(
            strategy="profile_isolation",
            priority=("email", "customerid", "ios_idfv", "other"),
            login=("email", "other"),
            unique=("email", "customerid"),
            immutable=("email",),
            on_new_known="convert",
            on_logout="none",
            search_immutable_only=True,
            junk_also=(" House Account ",),
            max_known_profiles_per_value=0,
            max_values_per_profile=7,
            phone_region="DE",
            alias_delay=0,
            alias_window="7d",
        )
    )
    assert policy.priority == ("email", "customerid", "ios_idfv", "other")
    assert policy.rank == {"email": 0, "customerid": 1, "ios_idfv": 2, "other": 3}
    assert policy.login == {"email", "other"}
    assert policy.unique == {"email", "customerid"}
    assert policy.immutable == {"email"}
    assert (policy.on_new_known, policy.on_logout) == ("convert", "none")
    assert {"house account", "null"} <= policy.junk
    assert (policy.max_known_profiles_per_value, policy.max_values_per_profile) == (0, 7)
    assert (policy.alias_delay_ms, policy.alias_window_ms) == (0, 7 * 86_400_000)


def test_overridden_login_types_are_unique_too_unless_unique_says_otherwise() -> None:
    assert build(PolicySettings(login=("email",))).unique == {"email"}
    assert build(PolicySettings(login=("email",), unique=())).unique == frozenset()


def test_the_immutable_types_of_a_preset_go_with_the_login_types_that_carry_them() -> None:
    assert build(PolicySettings(login=("email", "customerid"))).immutable == {"customerid"}
    assert build(PolicySettings(login=("email",))).immutable == frozenset()
    assert build(PolicySettings(unique=())).immutable == frozenset()


def test_a_junk_list_of_ones_own_replaces_the_default() -> None:
    assert build(PolicySettings(junk=("N.N.",))).junk == {"n.n."}


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("priority", {"priority": []}),
        ("priority", {"priority": ["customerid", "shoe_size"]}),
        ("priority", {"priority": ["customerid", "email", "customerid"]}),
        ("login", {"login": ["customer_id"]}),
        ("login", {"login": ["email", "email"]}),
        ("login", {"priority": ["email"]}),
        ("login", {"priority": ["customerid"], "login": ["email"]}),
        ("login", {"strategy": "best_match", "login": ["customerid"]}),
        ("unique", {"priority": ["customerid"], "unique": ["email"]}),
        ("immutable", {"immutable": ["email"]}),
        ("immutable", {"login": ["customerid", "email"], "unique": ["customerid"], "immutable": ["email"]}),
        ("immutable", {"unique": ["customerid", "email"], "immutable": ["email"]}),
        ("immutable", {"priority": ["customerid"], "immutable": ["push_token"]}),
        ("on_logout", {"strategy": "best_match", "on_logout": "return_anonymous"}),
        ("on_logout", {"login": [], "on_logout": "return_anonymous"}),
        ("on_logout", {"on_logout": "forget"}),
        ("on_new_known", {"on_new_known": "merge"}),
        ("strategy", {"strategy": "guess"}),
        ("search_immutable_only", {"strategy": "profile_link", "search_immutable_only": True}),
        ("max_known_profiles_per_value", {"max_known_profiles_per_value": -1}),
        ("max_values_per_profile", {"max_values_per_profile": 10**12}),
        ("max_values_per_profile", {"max_values_per_profile": "many"}),
        ("phone_region", {"phone_region": "Germany"}),
        ("alias_delay", {"alias_delay": "soon"}),
        ("alias_delay", {"alias_delay": -5}),
        ("alias_delay", {"alias_delay": "366d"}),
        ("alias_window", {"alias_window": "91d"}),
        ("alias_window", {"alias_window": 0}),
        ("logins", {"logins": ["email"]}),
    ],
)
def test_an_impossible_policy_is_refused_and_the_field_named(field: str, settings: dict[str, object]) -> None:
    with pytest.raises(PolicyError) as refusal:
        build(settings_from(settings))
    assert refusal.value.field.startswith(field)
    assert str(refusal.value).startswith(f"{refusal.value.field}: ")


def test_a_refusal_says_what_is_allowed() -> None:
    with pytest.raises(PolicyError, match=r"allowed: .*customerid.*email"):
        build(settings_from({"login": ["customer_id"]}))
    with pytest.raises(PolicyError, match=r"allowed: .*on_logout"):
        settings_from({"on_log_out": "create"})


@pytest.mark.parametrize(
    ("written", "ms"),
    [("250ms", 250), ("30s", 30_000), ("15m", 900_000), ("24h", 86_400_000), ("90d", 7_776_000_000), ("0", 0),
     (5, 5000), (" 2 h ", 7_200_000)],
)  # fmt: skip
def test_durations(written: str | int, ms: int) -> None:
    assert parse_duration(written, "alias_delay") == ms


def test_alias_is_taken_by_the_strategies_that_keep_one_user_on_several_profiles() -> None:
    allowed = {
        strategy: build(settings_from({"strategy": strategy})).alias_allowed
        for strategy in ("default", "profile_conversion", "profile_link", "profile_isolation", "best_match")
    }
    assert [strategy for strategy, may in allowed.items() if may] == ["default", "profile_conversion", "profile_link"]


def test_every_look_up_of_the_default_priority_is_an_identity_type() -> None:
    assert set(DEFAULT_PRIORITY) <= IDENTITY_TYPES
