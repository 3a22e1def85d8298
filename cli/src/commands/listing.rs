//! Lists, which come in pages.

use crate::{console::Console, failure::Failure, table::Table};
use portcullis_client::Status;
use serde_json::{Value, json};

/// A page, or all of a list.
pub(crate) struct Listing<T> {
    pub(crate) items: Vec<T>,
    /// Names whose stored record failed its authentication.
    pub(crate) unauthentic: Vec<String>,
    /// Empty on the last page.
    pub(crate) next_page_token: String,
}

/// A column: its head, and what a thing has in it.
pub(crate) type Column<T> = (&'static str, fn(&T) -> String);

impl<T> Listing<T> {
    /// Reads all pages: `page` gets the token of each.
    pub(crate) async fn read(mut page: impl AsyncFnMut(String) -> Result<Self, Status>) -> Result<Self, Failure> {
        let mut all = page(String::new()).await?;
        while !all.next_page_token.is_empty() {
            let more = page(std::mem::take(&mut all.next_page_token)).await?;
            all.items.extend(more.items);
            all.unauthentic.extend(more.unauthentic);
            all.next_page_token = more.next_page_token;
        }
        Ok(all)
    }

    /// Shows it: a row for each thing, or a document of all, in which the list has a name.
    pub(crate) fn show(
        &self,
        console: Console,
        name: &str,
        columns: &[Column<T>],
        document: fn(&T) -> Value,
    ) -> Result<(), Failure> {
        let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        let mut table = Table::new(&heads);
        for item in &self.items {
            table.row(columns.iter().map(|(_, cell)| cell(item)));
        }
        let documents: Vec<Value> = self.items.iter().map(document).collect();
        console.result(
            &table.text(console.paint()),
            &json!({ name: documents, "unauthentic": self.unauthentic }),
        )?;
        for name in &self.unauthentic {
            console.note(&format!(
                "the stored record of {name} failed its authentication, so the gateway does not use it; somebody may \
                 have changed the database: tell the operator"
            ));
        }
        Ok(())
    }
}

/// The largest page that the gateway gives.
pub(crate) const PAGE_SIZE: i32 = 1000;
