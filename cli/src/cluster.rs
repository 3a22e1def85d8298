//! `portcullis cluster`.

use crate::{
    arguments::ClusterCommand,
    console::Console,
    document,
    failure::{Exit, Failure},
    table::Table,
    words::word,
};
use portcullis_client::{
    Client,
    v1::{ListMembersRequest, ListMembersResponse, MemberState},
};
use serde_json::json;

pub(crate) async fn run(client: &Client, console: Console, command: ClusterCommand) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Status => status(client, console).await,
    }
}

async fn status(client: &Client, console: Console) -> Result<Exit, Failure> {
    let cluster = client.cluster().list_members(ListMembersRequest {}).await?.into_inner();
    let document = json!({
        "members": cluster.members.iter().map(document::member).collect::<Vec<_>>(),
        "domain_epoch": cluster.domain_epoch,
        "domain_fingerprint": cluster.domain_fingerprint,
    });
    console.result(&status_text(&cluster), &document)?;
    Ok(Exit::Done)
}

fn status_text(cluster: &ListMembersResponse) -> String {
    let mut table = Table::new(&["MEMBER", "STATE", "OUTSTANDING", "STARTS", "TOKEN", "SERIAL", "REASON"]);
    for member in &cluster.members {
        let token = member.token.clone().unwrap_or_default();
        table.row([
            member.name.trim_start_matches("members/").to_owned(),
            word::<MemberState>(member.state),
            member.outstanding.to_string(),
            member.worker_starts.to_string(),
            token.label,
            token.serial_number,
            member.reason.clone(),
        ]);
    }
    let (epoch, fingerprint) = (cluster.domain_epoch, &cluster.domain_fingerprint);
    let mut text = format!("domain epoch {epoch}, fingerprint {fingerprint}\n\n{}", table.text());
    for member in &cluster.members {
        let name = member.name.trim_start_matches("members/");
        for obstacle in &member.sealing_obstacles {
            let (code, why) = (&obstacle.code, &obstacle.message);
            text.push_str(&format!("\n{name} cannot hold wrapped keys: {why} [{code}]"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_client::v1::{Member, SealingObstacle, Token};

    #[test]
    fn the_table_has_a_line_for_each_member() {
        let cluster = ListMembersResponse {
            members: vec![
                Member {
                    name: "members/a".into(),
                    state: MemberState::Ready as i32,
                    outstanding: 12,
                    worker_starts: 1,
                    token: Some(Token {
                        label: "ops".into(),
                        serial_number: "0a1b".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
                Member {
                    name: "members/b".into(),
                    state: MemberState::Stopped as i32,
                    worker_starts: 3,
                    reason: "the PIN is wrong: correct it and resume the member".into(),
                    ..Default::default()
                },
            ],
            domain_epoch: 1,
            domain_fingerprint: "5f3a".into(),
        };
        assert_eq!(
            status_text(&cluster),
            "domain epoch 1, fingerprint 5f3a\n\
             \n\
             MEMBER  STATE    OUTSTANDING  STARTS  TOKEN  SERIAL  REASON\n\
             a       ready    12           1       ops    0a1b    -\n\
             b       stopped  0            3       -      -       the PIN is wrong: correct it and resume the member"
        );
    }

    #[test]
    fn what_a_member_cannot_hold_is_said_below_the_table() {
        let cluster = ListMembersResponse {
            members: vec![Member {
                name: "members/a".into(),
                state: MemberState::Ready as i32,
                sealing_obstacles: vec![SealingObstacle {
                    code: "NO_KEY_WRAP".into(),
                    message: "the token has no AES key wrap".into(),
                }],
                ..Default::default()
            }],
            domain_epoch: 1,
            domain_fingerprint: "5f3a".into(),
        };
        assert_eq!(
            status_text(&cluster),
            "domain epoch 1, fingerprint 5f3a\n\
             \n\
             MEMBER  STATE  OUTSTANDING  STARTS  TOKEN  SERIAL  REASON\n\
             a       ready  0            0       -      -       -\n\
             a cannot hold wrapped keys: the token has no AES key wrap [NO_KEY_WRAP]"
        );
    }
}
