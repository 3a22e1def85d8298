//! Answers questions from the loaded policies, and remembers the answers that cannot change.

use super::{
    Action, Decision, Duty, PolicyError, PolicyProblem, PolicySettings, Question,
    facts::{self, Unspeakable},
    load::{self, Sources},
    memory::{Memory, Remembered},
    rule::{Reach, Rule},
    vocabulary::Kind,
};
use crate::{
    identity::{Peer, Principal, PrincipalPattern},
    keys::name::Id,
};
use arc_swap::ArcSwap;
use cedar_policy::{Authorizer, Decision as Verdict, Entities, Entity, PolicyId, PolicySet, Request};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};
use time::OffsetDateTime;

/// Decides who may do what. Nothing is allowed unless a policy permits it and none forbids it.
#[derive(Debug)]
pub struct Policy {
    loaded: ArcSwap<Loaded>,
}

impl Policy {
    /// Reads and checks everything that the settings name.
    pub fn load(settings: &PolicySettings) -> Result<Self, PolicyError> {
        Self::load_remembering(settings, USUAL_ANSWERS)
    }

    /// The same, to keep at most so many answers in memory.
    pub fn load_remembering(settings: &PolicySettings, answers: u32) -> Result<Self, PolicyError> {
        Ok(Self {
            loaded: ArcSwap::from_pointee(Loaded::load(settings, answers)?),
        })
    }

    /// Takes other policies into use, all at once. Each question is answered by the old or by the new ones.
    pub fn replace(&self, other: Self) {
        self.loaded.store(other.loaded.into_inner());
    }

    /// Answers a question. Has no side effect and does not wait.
    pub fn decide(&self, question: Question<'_>, now: OffsetDateTime) -> Decision {
        self.loaded.load().decide(question, now)
    }

    /// Whether a policy could permit this principal this action on anything at all, under whatever circumstances. Cheap, so
    /// that those whom none could are refused before anything is looked up for them.
    pub fn could_allow(&self, peer: &Peer, action: Action) -> Decision {
        match &self.loaded.load().candidates(peer, action).permit {
            Some(rule) => Decision::Allow(Arc::clone(rule)),
            None => Decision::Deny(None),
        }
    }

    /// Whether an answer about the keys of a ring could depend on more of them than their names.
    pub fn looks_at_keys(&self, peer: &Peer, action: Action, ring: &Id) -> bool {
        let keys = Reach::keys_of(ring.as_str());
        let candidates = self.loaded.load().candidates(peer, action);
        let looks = |rule: &Arc<Rule>| rule.looks_at_resource && rule.reach.meets(&keys);
        candidates.rules.values().any(looks)
    }

    /// How many policies and filled-in roles are loaded.
    pub fn len(&self) -> usize {
        self.loaded.load().rules.len()
    }

    /// Whether nothing is loaded, so that nobody may do anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is allowed in the loaded policies and strange.
    pub fn warnings(&self) -> Vec<PolicyProblem> {
        self.loaded.load().warnings.clone()
    }

    /// The loaded policies.
    pub(super) fn rules(&self) -> Vec<Arc<Rule>> {
        self.loaded.load().rules.clone()
    }
}

/// Policies and what was found out with them. All of it is replaced together.
#[derive(Debug)]
struct Loaded {
    rules: Vec<Arc<Rule>>,
    warnings: Vec<PolicyProblem>,
    /// The patterns that any policy names.
    patterns: Vec<PrincipalPattern>,
    memory: Memory,
    authorizer: Authorizer,
}

impl Loaded {
    fn load(settings: &PolicySettings, answers: u32) -> Result<Self, PolicyError> {
        let Sources { rules, warnings } = load::load(settings)?;
        let named: HashSet<_> = rules.iter().flat_map(|rule| rule.entities()).collect();
        let patterns = named
            .iter()
            .filter(|entity| Kind::of(entity) == Some(Kind::Pattern))
            .filter_map(|entity| PrincipalPattern::parse(entity.id().unescaped()).ok())
            .collect();
        Ok(Self {
            rules,
            warnings,
            patterns,
            memory: Memory::new(answers),
            authorizer: Authorizer::new(),
        })
    }

    fn decide(&self, question: Question<'_>, now: OffsetDateTime) -> Decision {
        if let Some(decision) = self.memory.recall(&question) {
            return decision;
        }
        let candidates = self.candidates(question.peer, question.action);
        if candidates.rules.is_empty() {
            return Decision::Deny(None);
        }
        match self.evaluate(&candidates, question, now) {
            Ok(decision) => {
                if !candidates.passing {
                    self.memory.keep(Remembered::new(&question, decision.clone()));
                }
                decision
            }
            Err(error) => {
                tracing::error!(%error, action = %question.action, "a question could not be put to the policy; the answer is no");
                Decision::Deny(None)
            }
        }
    }

    /// The policies whose heads name a principal and an action.
    fn candidates(&self, peer: &Peer, action: Action) -> Arc<Candidates> {
        self.memory.candidates(&peer.principal, action, || {
            Candidates::select(&self.rules, &self.patterns, peer, action).unwrap_or_else(|error| {
                tracing::error!(%error, principal = %peer.principal, "no policy can be asked about a principal");
                Candidates::none(&peer.principal, action)
            })
        })
    }

    fn evaluate(
        &self,
        candidates: &Candidates,
        question: Question<'_>,
        now: OffsetDateTime,
    ) -> Result<Decision, Unspeakable> {
        let resource = facts::resource(question.resource)?;
        let place = resource.uid();
        let context = facts::context(question.peer, question.circumstances, now)?;
        let given = facts::encryption_context(question.circumstances)?;
        let entities = candidates
            .entities
            .clone()
            .add_entities([resource].into_iter().chain(given), None)
            .map_err(|error| Unspeakable::new(&error))?;
        let request = Request::new(
            Kind::Principal.entity(question.peer.principal.as_str()),
            Kind::Action.entity(question.action.name()),
            place,
            context,
            None,
        )
        .map_err(|error| Unspeakable::new(&error))?;
        let response = self.authorizer.is_authorized(&request, &candidates.policies, &entities);
        let diagnostics = response.diagnostics();
        let rules = |ids: &mut dyn Iterator<Item = &PolicyId>| {
            let names: BTreeSet<&str> = ids
                .filter_map(|id| candidates.rules.get(id))
                .map(|rule| &*rule.name)
                .collect();
            Arc::<str>::from(names.into_iter().collect::<Vec<_>>().join(", "))
        };
        // A prohibition that cannot be evaluated prohibits; a permission that cannot permits nothing.
        for error in diagnostics.errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            let Some(rule) = candidates.rules.get(error.policy_id()) else {
                continue;
            };
            if !rule.reported.swap(true, Ordering::Relaxed) {
                tracing::warn!(rule = &*rule.name, action = %question.action, resource = %question.resource, error = %error.inner(), "a policy could not be evaluated");
            }
            if !rule.permits() {
                return Ok(Decision::Deny(Some(Arc::clone(&rule.name))));
            }
        }
        Ok(match response.decision() {
            Verdict::Allow => Decision::Allow(rules(&mut diagnostics.reason())),
            Verdict::Deny => Decision::Deny(Some(rules(&mut diagnostics.reason())).filter(|names| !names.is_empty())),
        })
    }
}

/// What there is to ask about one principal and one action.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) principal: Principal,
    pub(super) action: Action,
    rules: HashMap<PolicyId, Arc<Rule>>,
    policies: PolicySet,
    entities: Entities,
    /// The first that could permit.
    permit: Option<Arc<str>>,
    /// Whether an answer can change from one request of the same kind to the next.
    passing: bool,
}

impl Candidates {
    fn none(principal: &Principal, action: Action) -> Self {
        Self {
            principal: principal.clone(),
            action,
            rules: HashMap::new(),
            policies: PolicySet::new(),
            entities: Entities::empty(),
            permit: None,
            passing: false,
        }
    }

    fn select(
        all: &[Arc<Rule>],
        patterns: &[PrincipalPattern],
        peer: &Peer,
        action: Action,
    ) -> Result<Self, Unspeakable> {
        let mut found = Self::none(&peer.principal, action);
        if action.duty() == Duty::Internal {
            return Ok(found);
        }
        let fits = |rule: &&Arc<Rule>| rule.is_for(&peer.principal) && rule.actions.contains(&action);
        for rule in all.iter().filter(fits) {
            found.add(rule)?;
            if rule.permits() && found.permit.is_none() {
                found.permit = Some(Arc::clone(&rule.name));
            }
            found.passing |= rule.passing;
            found.rules.insert(rule.id().clone(), Arc::clone(rule));
        }
        if found.permit.is_none() {
            // What nothing permits, nothing needs to forbid.
            return Ok(Self::none(&peer.principal, action));
        }
        let group = HashSet::from([Kind::Action.entity(action.duty().name())]);
        let this = Kind::Action.entity(action.name());
        let action = if group.contains(&this) {
            Entity::with_uid(this)
        } else {
            Entity::new_no_attrs(this, group)
        };
        found.entities = Entities::from_entities([facts::principal(peer, patterns)?, action], None)
            .map_err(|error| Unspeakable::new(&error))?;
        Ok(found)
    }

    /// Takes a policy in, with its template if it is a grant's.
    fn add(&mut self, rule: &Rule) -> Result<(), Unspeakable> {
        let policies = &mut self.policies;
        match &rule.link {
            None => policies
                .add(rule.policy.clone())
                .map_err(|error| Unspeakable::new(&error)),
            Some((template, values)) => {
                if policies.template(template.id()).is_none() {
                    let added = policies.add_template(template.clone());
                    added.map_err(|error| Unspeakable::new(&error))?;
                }
                let linked = policies.link(template.id().clone(), rule.id().clone(), values.clone());
                linked.map_err(|error| Unspeakable::new(&error))
            }
        }
    }
}

/// Answers that are kept where nobody says how many.
const USUAL_ANSWERS: u32 = 100_000;
