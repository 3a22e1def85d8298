//! The roles that come with the gateway: templates that a grant fills in with whom and where.

use cedar_policy::{PolicyId, PolicySet, SlotId, Template};
use std::{fmt, sync::LazyLock};

macro_rules! roles {
    ($($name:literal,)*) => {
        /// Name and text of each role, in the order of the documentation.
        const ROLES: &[(&str, &str)] = &[$(($name, include_str!(concat!("roles/", $name, ".cedar"))),)*];
    };
}

roles! {
    "key-admin",
    "reader",
    "signer",
    "verifier",
    "encrypter",
    "decrypter",
    "reencrypter",
    "mac-user",
    "key-agreement-user",
    "data-key-user",
    "random-user",
    "ephemeral-key-user",
    "object-admin",
    "importer",
    "exporter",
    "destroyer",
    "break-glass",
    "activation-requester",
    "activation-approver",
    "auditor",
    "hsm-operator",
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role(usize);

impl Role {
    /// All roles.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ROLES.len()).map(Self)
    }

    /// The role of this name; says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::all().find(|role| role.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(Self::name).collect();
            format!("\"{name}\" is no role: expected {}", names.join(", "))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ROLES[self.0].0
    }

    /// Its text, with the comment that says what it is for.
    pub fn text(self) -> &'static str {
        ROLES[self.0].1
    }

    /// What it is for: its comment.
    pub fn description(self) -> String {
        let comment = self.text().lines().map_while(|line| line.strip_prefix("//"));
        comment.map(str::trim).collect::<Vec<_>>().join(" ")
    }

    /// Whether it is granted for rings or keys; otherwise it concerns the whole gateway.
    pub fn needs_place(self) -> bool {
        self.templates()
            .iter()
            .any(|template| has_slot(template, &SlotId::resource()))
    }

    /// Its templates, under ids of their own.
    pub(super) fn templates(self) -> &'static [Template] {
        &TEMPLATES[self.0]
    }

    fn read(self) -> Vec<Template> {
        // Invariant: the roles are part of the program, and a test reads them.
        let set: PolicySet = self.text().parse().expect("a role is valid Cedar");
        let renamed =
            |template: &Template| template.new_id(PolicyId::new(format!("{}/{}", self.name(), template.id())));
        set.templates().map(renamed).collect()
    }
}

static TEMPLATES: LazyLock<Vec<Vec<Template>>> = LazyLock::new(|| Role::all().map(Role::read).collect());

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

pub(super) fn has_slot(template: &Template, slot: &SlotId) -> bool {
    template.slots().any(|one| one == slot)
}
