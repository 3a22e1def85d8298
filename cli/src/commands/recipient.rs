//! `portcullis recipient`.

use super::{
    change::Change,
    key::public_key_in,
    listing::{Listing, PAGE_SIZE},
};
use crate::{
    arguments::RecipientCommand,
    console::Console,
    document,
    failure::{Exit, Failure},
    table::{fields, last_part, time},
};
use portcullis_client::{
    Client,
    v1::{CreateRecipientRequest, DeleteRecipientRequest, GetRecipientRequest, ListRecipientsRequest, Recipient},
};

pub(crate) async fn run(client: &Client, console: Console, command: RecipientCommand) -> Result<Exit, Failure> {
    match command {
        RecipientCommand::Create {
            recipient,
            public_key,
            description,
            change,
        } => {
            let change = Change::from(&change);
            let request = CreateRecipientRequest {
                parent: recipient.ring().to_string(),
                recipient_id: recipient.id().to_owned(),
                recipient: Some(Recipient {
                    public_key: public_key_in(&public_key)?.into(),
                    description,
                    ..Default::default()
                }),
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            let made = client.keys().create_recipient(request).await.map_err(change.failed())?;
            let made = made.into_inner();
            let text = change.outcome(|| format!("registered {} with the fingerprint {}", made.name, made.fingerprint));
            console.result(&text, &document::recipient(&made))?;
        }
        RecipientCommand::List { ring } => {
            let recipients = Listing::read(async |page_token| {
                let request = ListRecipientsRequest {
                    parent: ring.to_string(),
                    page_size: PAGE_SIZE,
                    page_token,
                };
                let page = client.keys().list_recipients(request).await?.into_inner();
                Ok(Listing {
                    items: page.recipients,
                    unauthentic: page.unauthentic,
                    next_page_token: page.next_page_token,
                })
            });
            recipients.await?.show(
                console,
                "recipients",
                &[
                    ("RECIPIENT", |recipient| last_part(&recipient.name)),
                    ("FINGERPRINT", |recipient| recipient.fingerprint.clone()),
                    ("CREATED", |recipient| time(recipient.create_time)),
                    ("DESCRIPTION", |recipient| recipient.description.clone()),
                ],
                document::recipient,
            )?;
        }
        RecipientCommand::Show { recipient } => {
            let request = GetRecipientRequest {
                name: recipient.to_string(),
            };
            let recipient = client.keys().get_recipient(request).await?.into_inner();
            let text = fields(
                console.paint(),
                &[
                    ("name", recipient.name.clone()),
                    ("fingerprint", recipient.fingerprint.clone()),
                    ("description", recipient.description.clone()),
                    ("created", time(recipient.create_time)),
                    ("etag", recipient.etag.clone()),
                ],
            );
            console.result(&text, &document::recipient(&recipient))?;
        }
        RecipientCommand::Delete { recipient, update } => {
            let change = Change::from(&update);
            let request = DeleteRecipientRequest {
                name: recipient.to_string(),
                etag: change.etag.clone(),
                request_id: change.request_id(),
                validate_only: change.validate_only,
            };
            client.keys().delete_recipient(request).await.map_err(change.failed())?;
            change.told_deleted(console, &recipient.to_string())?;
        }
    }
    Ok(Exit::Done)
}
