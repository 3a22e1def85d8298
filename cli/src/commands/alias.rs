//! `portcullis alias`.

use super::{
    change::{Change, mask},
    listing::{Listing, PAGE_SIZE},
};
use crate::{
    arguments::AliasCommand,
    console::Console,
    document,
    failure::{Exit, Failure},
    table::{last_part, time},
};
use portcullis_client::{
    Client,
    v1::{Alias, CreateAliasRequest, DeleteAliasRequest, ListAliasesRequest, UpdateAliasRequest},
};

pub(crate) async fn run(client: &Client, console: Console, command: AliasCommand) -> Result<Exit, Failure> {
    match command {
        AliasCommand::Create { alias, target, change } => {
            let change = Change::from(&change);
            let request = CreateAliasRequest {
                parent: alias.ring().to_string(),
                alias_id: alias.id().to_owned(),
                alias: Some(Alias {
                    target: target.to_string(),
                    ..Default::default()
                }),
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            let made = client.keys().create_alias(request).await.map_err(change.failed())?;
            told(console, &change, &made.into_inner())?;
        }
        AliasCommand::Update { alias, target, update } => {
            let change = Change::from(&update);
            let request = UpdateAliasRequest {
                alias: Some(Alias {
                    name: alias.to_string(),
                    target: target.to_string(),
                    etag: change.etag.clone(),
                    ..Default::default()
                }),
                update_mask: mask(vec!["target".to_owned()])?,
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            let changed = client.keys().update_alias(request).await.map_err(change.failed())?;
            told(console, &change, &changed.into_inner())?;
        }
        AliasCommand::Delete { alias, update } => {
            let change = Change::from(&update);
            let request = DeleteAliasRequest {
                name: alias.to_string(),
                etag: change.etag.clone(),
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            client.keys().delete_alias(request).await.map_err(change.failed())?;
            change.told_deleted(console, &alias.to_string())?;
        }
        AliasCommand::List { ring } => {
            let aliases = Listing::read(async |page_token| {
                let request = ListAliasesRequest {
                    parent: ring.to_string(),
                    page_size: PAGE_SIZE,
                    page_token,
                };
                let page = client.keys().list_aliases(request).await?.into_inner();
                Ok(Listing {
                    items: page.aliases,
                    unauthentic: page.unauthentic,
                    next_page_token: page.next_page_token,
                })
            });
            aliases.await?.show(
                console,
                "aliases",
                &[
                    ("ALIAS", |alias| last_part(&alias.name)),
                    ("TARGET", |alias| alias.target.clone()),
                    ("CREATED", |alias| time(alias.create_time)),
                    ("CHANGED", |alias| time(alias.update_time)),
                ],
                document::alias,
            )?;
        }
    }
    Ok(Exit::Done)
}

fn told(console: Console, change: &Change, alias: &Alias) -> Result<(), Failure> {
    let text = change.outcome(|| format!("{} stands for {}", alias.name, alias.target));
    console.result(&text, &document::alias(alias))
}
