//! Keys that are made, and keys that are used for the first time.

use crate::{
    bench::window,
    closed::{Call, closed},
    error::Error,
    operation::{Mode, Operation},
    plan::Plan,
    report::{Group, Way},
    sample::{Outcome, Sample},
    through::{Caller, Request, Route, keys::Keys, told},
};
use portcullis_client::Client;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::task::JoinSet;

/// Measures one of the two with all numbers of callers, over all routes in turns.
pub(crate) async fn measure(
    operation: Operation,
    plan: &Plan,
    routes: &[Route],
    keys: &Keys,
    progress: &dyn Fn(&str),
) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    let numbers: Vec<usize> = plan.callers.iter().map(|callers| (*callers).min(CALLERS)).collect();
    for callers in numbers {
        let mut group = Group::new(operation, callers);
        for route in routes {
            group.ways.push(Way::new(route.transport, Mode::Unary, callers));
        }
        for repeat in 1..=plan.repeats {
            progress(&format!(
                "{operation}, {callers} callers: run {repeat} of {}",
                plan.repeats
            ));
            for (way, route) in group.ways.iter_mut().zip(routes) {
                way.samples.push(match operation {
                    Operation::ColdKey => first_uses(route, keys, callers, plan.cold_keys).await?,
                    _ => creations(route, keys, callers, plan).await,
                });
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

struct Maker {
    client: Client,
    keys: Keys,
}

impl Call for Maker {
    async fn call(&mut self) -> Outcome {
        let request = self.keys.creation(Operation::CreateKey);
        let created = self.client.keys().create_key(request).await;
        Outcome::of_one(created.map(drop).map_err(told))
    }
}

async fn creations(route: &Route, keys: &Keys, callers: usize, plan: &Plan) -> Sample {
    let makers = (0..callers).map(|number| Maker {
        client: route.connection(number).clone(),
        keys: keys.clone(),
    });
    closed(makers.collect(), window(plan)).await
}

/// So many keys, each used once, as fast as the callers get answers.
async fn first_uses(route: &Route, keys: &Keys, callers: usize, count: usize) -> Result<Sample, Error> {
    let names = keys.create_many(Operation::ColdKey, count).await?;
    let left = Arc::new(Mutex::new(names));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..callers {
        let (left, client) = (Arc::clone(&left), route.connection(number).clone());
        tasks.spawn(async move {
            let mut sample = Sample::new(std::time::Duration::ZERO);
            loop {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let request = next.and_then(|name| Request::new(Operation::ColdKey, &name));
                let Some(request) = request else { return sample };
                let mut caller = Caller::unary(&client, &request);
                let begun = Instant::now();
                let outcome = caller.call().await;
                sample.count(outcome, begun.elapsed());
            }
        });
    }
    let samples = tasks.join_all().await;
    let mut all = Sample::new(started.elapsed());
    for sample in &samples {
        all.add(sample);
    }
    Ok(all)
}

/// More callers than this make no more keys.
const CALLERS: usize = crate::target::CREATORS;
