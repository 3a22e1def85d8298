//! Conditions on everything that a policy may know.

use super::*;

#[test]
fn nothing_is_allowed_without_a_policy() {
    let policy = cedar("");
    for action in Action::ALL.iter().copied() {
        assert_eq!(
            ask(&policy, &peer(TELLER), action, Circumstances::NONE),
            Decision::Deny(None)
        );
        assert!(!policy.could_allow(&peer(TELLER), action).is_allowed());
    }
}

#[test]
fn what_is_not_served_can_be_allowed_to_nobody() {
    let policy = cedar("permit (principal, action, resource);");
    let decision = ask(&policy, &peer(TELLER), Action::Unavailable, Circumstances::NONE);
    assert_eq!(decision, Decision::Deny(None));
}

#[test]
fn a_prohibition_wins() {
    let policy = cedar(
        r#"
        @id("all") permit (principal, action, resource);
        @id("not the teller") forbid (principal == Principal::"spiffe://example.org/payments/teller", action == Action::"sign", resource);
        "#,
    );
    let sign = |who| ask(&policy, &peer(who), Action::Sign, Circumstances::NONE);
    assert_eq!(sign(TELLER), forbidden_by("not the teller"));
    assert_eq!(sign("unix:uid=1"), by("all"));
    assert_eq!(
        ask(&policy, &peer(TELLER), Action::Verify, Circumstances::NONE),
        by("all")
    );
}

#[test]
fn all_policies_that_allow_are_named_in_one_order() {
    let policy = cedar(
        r#"
        @id("b") permit (principal, action == Action::"sign", resource);
        @id("a") permit (principal, action in Action::"use", resource in KeyRing::"payments");
        permit (principal, action, resource);
        "#,
    );
    assert_eq!(
        ask(&policy, &peer(TELLER), Action::Sign, Circumstances::NONE),
        by("a, b, policy.cedar:4")
    );
}

#[test]
fn labels_and_other_facts_of_a_key_decide() {
    let policy = cedar(
        r#"
        @id("test keys") permit (principal, action == Action::"sign", resource)
        when { resource.hasTag("stage") && resource.getTag("stage") == "test" };
        @id("hmac") permit (principal, action == Action::"mac.sign", resource)
        when { resource.purpose == Purpose::"MAC" && resource.type == KeyType::"HMAC_SHA256" };
        @id("resident") permit (principal, action == Action::"key.create", resource)
        when { resource.protection == Protection::"RESIDENT" || resource.exportable };
        "#,
    );
    let (key, test, live) = (
        name("keyRings/r/keys/k"),
        labels(&[("stage", "test")]),
        labels(&[("stage", "live")]),
    );
    let none = BTreeMap::new();
    let ask =
        |action, key: KeyFacts<'_>| ask_about(&policy, &peer(TELLER), action, Resource::Key(key), Circumstances::NONE);
    assert_eq!(ask(Action::Sign, facts(&key, &test)), by("test keys"));
    // The same key with other labels is asked about anew.
    assert_eq!(ask(Action::Sign, facts(&key, &live)), Decision::Deny(None));
    assert_eq!(ask(Action::Sign, facts(&key, &none)), Decision::Deny(None));
    assert_eq!(ask(Action::Sign, facts(&key, &test)), by("test keys"));
    let hmac = KeyFacts {
        purpose: Purpose::Mac,
        key_type: KeyType::HmacSha256,
        ..facts(&key, &none)
    };
    assert_eq!(ask(Action::MacSign, hmac), by("hmac"));
    assert_eq!(ask(Action::MacSign, facts(&key, &none)), Decision::Deny(None));
    let resident = KeyFacts {
        protection: Protection::Resident,
        ..facts(&key, &none)
    };
    let exportable = KeyFacts {
        exportable: true,
        ..facts(&key, &none)
    };
    assert_eq!(ask(Action::CreateKey, resident), by("resident"));
    assert_eq!(ask(Action::CreateKey, exportable), by("resident"));
    assert_eq!(ask(Action::CreateKey, facts(&key, &none)), Decision::Deny(None));
}

#[test]
fn mechanism_version_and_encryption_context_decide() {
    let policy = cedar(
        r#"
        @id("pss") permit (principal, action == Action::"sign", resource)
        when { context has mechanism && context.mechanism == Mechanism::"RSA_PSS_SHA256" };
        @id("newest") permit (principal, action == Action::"encrypt", resource)
        when { context has primary_version && context.primary_version };
        @id("legal") permit (principal, action == Action::"decrypt", resource)
        when {
            context.encryption_context.hasTag("department")
            && context.encryption_context.getTag("department") == "legal"
        };
        "#,
    );
    let with = |mechanism| Circumstances {
        mechanism,
        ..Circumstances::NONE
    };
    fn teller(policy: &Policy, action: Action, circumstances: Circumstances<'_>) -> Decision {
        ask(policy, &peer(TELLER), action, circumstances)
    }
    assert_eq!(
        teller(&policy, Action::Sign, with(Some(Mechanism::RsaPssSha256))),
        by("pss")
    );
    assert_eq!(
        teller(&policy, Action::Sign, with(Some(Mechanism::RsaPkcs1Sha256))),
        Decision::Deny(None)
    );
    assert_eq!(teller(&policy, Action::Sign, with(None)), Decision::Deny(None));
    let version = |primary_version| Circumstances {
        primary_version,
        ..Circumstances::NONE
    };
    assert_eq!(teller(&policy, Action::Encrypt, version(Some(true))), by("newest"));
    assert_eq!(
        teller(&policy, Action::Encrypt, version(Some(false))),
        Decision::Deny(None)
    );
    assert_eq!(teller(&policy, Action::Encrypt, version(None)), Decision::Deny(None));
    for (context, expected) in [
        (Some(labels(&[("department", "legal"), ("x", "y")])), by("legal")),
        (Some(labels(&[("department", "sales")])), Decision::Deny(None)),
        (Some(labels(&[])), Decision::Deny(None)),
        (None, Decision::Deny(None)),
        (Some(labels(&[("department", "legal")])), by("legal")),
    ] {
        let circumstances = Circumstances {
            encryption_context: context.as_ref(),
            ..Circumstances::NONE
        };
        assert_eq!(teller(&policy, Action::Decrypt, circumstances), expected, "{context:?}");
    }
}

#[test]
fn time_and_weekday_decide_at_the_moment_of_asking() {
    let policy = cedar(
        r#"
        @id("working hours") permit (principal, action == Action::"sign", resource)
        when {
            context.time.toTime() >= duration("8h") && context.time.toTime() < duration("18h")
            && !["Saturday", "Sunday"].contains(context.weekday)
        };
        @id("until new year") permit (principal, action == Action::"verify", resource)
        when { context.time < datetime("2027-01-01") };
        "#,
    );
    let (key, none) = (name("keyRings/r/keys/k"), BTreeMap::new());
    let who = peer(TELLER);
    let at = |action, time| {
        let question = Question {
            peer: &who,
            action,
            resource: Resource::Key(facts(&key, &none)),
            circumstances: Circumstances::NONE,
        };
        policy.decide(question, time).is_allowed()
    };
    let monday = noon() + Duration::DAY;
    assert!(!at(Action::Sign, noon()));
    assert!(at(Action::Sign, monday));
    assert!(!at(Action::Sign, monday + Duration::hours(6)));
    assert!(at(Action::Sign, monday + Duration::hours(6) - Duration::MILLISECOND));
    assert!(!at(Action::Sign, monday - Duration::hours(5)));
    assert!(at(Action::Verify, noon()));
    assert!(!at(Action::Verify, noon() + Duration::days(40)));
}

#[test]
fn the_callers_address_connection_and_name_decide() {
    let policy = cedar(
        r#"
        @id("office") permit (principal, action == Action::"sign", resource)
        when { context has peer && context.peer.isInRange(ip("192.0.2.0/24")) };
        @id("local") permit (principal, action == Action::"verify", resource)
        when { context.connection == Connection::"unix" && principal has uid && principal.uid < 2000 };
        @id("domain") permit (principal, action == Action::"encrypt", resource)
        when {
            principal has trust_domain && principal.trust_domain == "example.org"
            && principal has path && principal.path like "/payments/*" && principal.method == Method::"client-certificate"
        };
        @id("subject") permit (principal, action == Action::"decrypt", resource)
        when { principal has issuer && principal.issuer == "0123" && principal has subject && principal.subject like "CN=*,O=Example" };
        "#,
    );
    let ask = |who: &Peer, action| ask(&policy, who, action, Circumstances::NONE);
    assert_eq!(ask(&peer_at(TELLER, "192.0.2.9:1"), Action::Sign), by("office"));
    // The same caller from elsewhere.
    assert_eq!(
        ask(&peer_at(TELLER, "198.51.100.9:1"), Action::Sign),
        Decision::Deny(None)
    );
    assert_eq!(
        ask(&peer_at(TELLER, "[::ffff:192.0.2.9]:1"), Action::Sign),
        by("office")
    );
    assert_eq!(ask(&peer("unix:uid=1000"), Action::Sign), Decision::Deny(None));
    assert_eq!(ask(&peer("unix:uid=1000"), Action::Verify), by("local"));
    assert_eq!(ask(&peer("unix:uid=2000"), Action::Verify), Decision::Deny(None));
    assert_eq!(ask(&peer(TELLER), Action::Verify), Decision::Deny(None));
    assert_eq!(ask(&peer(TELLER), Action::Encrypt), by("domain"));
    assert_eq!(
        ask(&peer("spiffe://example.com/payments/teller"), Action::Encrypt),
        Decision::Deny(None)
    );
    assert_eq!(
        ask(&peer("spiffe://example.org"), Action::Encrypt),
        Decision::Deny(None)
    );
    assert_eq!(ask(&peer("x509:0123:CN=pay,O=Example"), Action::Decrypt), by("subject"));
    assert_eq!(
        ask(&peer("x509:4567:CN=pay,O=Example"), Action::Decrypt),
        Decision::Deny(None)
    );
    assert_eq!(
        ask(&peer("x509:0123:CN=pay,O=Other"), Action::Decrypt),
        Decision::Deny(None)
    );
}

#[test]
fn patterns_work_in_heads_and_in_conditions() {
    let policy = cedar(
        r#"
        @id("tellers") permit (principal in Pattern::"spiffe://example.org/payments/*", action in Action::"use", resource);
        @id("not outside") forbid (principal, action == Action::"decrypt", resource)
        unless { principal in Pattern::"spiffe://example.org/payments/inside/*" };
        "#,
    );
    let ask = |who: &str, action| ask(&policy, &peer(who), action, Circumstances::NONE);
    assert_eq!(ask(TELLER, Action::Sign), by("tellers"));
    assert_eq!(ask(TELLER, Action::Decrypt), forbidden_by("not outside"));
    assert_eq!(
        ask("spiffe://example.org/payments/inside/x", Action::Decrypt),
        by("tellers")
    );
    assert_eq!(ask("spiffe://example.org/other", Action::Sign), Decision::Deny(None));
}

#[test]
fn a_prohibition_that_cannot_be_evaluated_prohibits_and_a_permission_permits_nothing() {
    let text = |effect: &str| {
        format!(
            r#"
            @id("all") permit (principal, action == Action::"sign", resource) when {{ principal.namespace == "unix" }};
            @id("overflow") {effect} (principal, action == Action::"sign", resource)
            when {{ principal has uid && 9223372036854775807 + principal.uid == 0 }};
            "#
        )
    };
    let ask = |effect| {
        ask(
            &cedar(&text(effect)),
            &peer("unix:uid=1000"),
            Action::Sign,
            Circumstances::NONE,
        )
    };
    assert_eq!(ask("permit"), by("all"));
    assert_eq!(ask("forbid"), forbidden_by("overflow"));
}

#[test]
fn a_condition_on_keys_gives_no_right_to_a_whole_ring() {
    let policy = cedar(
        r#"
        @id("test keys") permit (principal, action == Action::"sign", resource)
        when { resource.hasTag("stage") && resource.getTag("stage") == "test" };
        @id("curves") permit (principal, action == Action::"verify", resource)
        when { resource.type == KeyType::"EC_P256" };
        @id("ring") permit (principal, action == Action::"encrypt", resource in KeyRing::"payments");
        "#,
    );
    let ring = id("payments");
    let whole = |action| {
        ask_about(
            &policy,
            &peer(TELLER),
            action,
            Resource::KeyRing(&ring),
            Circumstances::NONE,
        )
        .is_allowed()
    };
    assert!(!whole(Action::Sign));
    assert!(!whole(Action::Verify));
    assert!(whole(Action::Encrypt));
}
