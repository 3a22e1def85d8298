//! `portcullis context`.

use crate::{
    arguments::{ContextCommand, GlobalArguments, SetContextArguments},
    console::Console,
    context::{Context, ContextFile, ContextName, Origin},
    failure::{Exit, Failure},
    table::{Table, fields},
};
use serde_json::{Value, json};
use std::path::PathBuf;
use toml_edit::value;

/// Runs what needs no gateway.
pub(crate) fn run(global: &GlobalArguments, console: Console, command: ContextCommand) -> Result<Exit, Failure> {
    match command {
        ContextCommand::List => list(console)?,
        ContextCommand::Show => show(global, console)?,
        ContextCommand::Set(arguments) => set(global, console, &arguments)?,
        ContextCommand::Use { name } => {
            let file = ContextFile::require()?;
            file.read()?.named(&name, &file)?;
            file.change(|document| document[CURRENT] = value(name.as_str()))?;
            told(console, &file, &name, "is used from now on, where none is named")?;
        }
        ContextCommand::Remove { name } => {
            let file = ContextFile::require()?;
            let contexts = file.read()?;
            contexts.named(&name, &file)?;
            file.change(|document| {
                if let Some(all) = document.get_mut(CONTEXT).and_then(|item| item.as_table_like_mut()) {
                    all.remove(name.as_str());
                }
                if contexts.current.as_ref() == Some(&name) {
                    document.remove(CURRENT);
                }
            })?;
            told(console, &file, &name, "is removed")?;
        }
    }
    Ok(Exit::Done)
}

fn list(console: Console) -> Result<(), Failure> {
    let file = ContextFile::require()?;
    let contexts = file.read()?;
    let is_current = |name: &ContextName| contexts.current.as_ref() == Some(name);
    let mut table = Table::new(&["CONTEXT", "CURRENT", "ENDPOINT", "CERT"]);
    for (name, context) in &contexts.all {
        table.row([
            name.to_string(),
            if is_current(name) { "yes" } else { "" }.to_owned(),
            context.endpoint.as_ref().map(ToString::to_string).unwrap_or_default(),
            text(context.cert.as_ref()),
        ]);
    }
    let documents: Vec<Value> = contexts
        .all
        .iter()
        .map(|(name, context)| {
            let mut document = document(context);
            document["name"] = json!(name.as_str());
            document["current"] = json!(is_current(name));
            document
        })
        .collect();
    console.result(
        &table.text(console.paint()),
        &json!({ "contexts": documents, "file": file.path().to_string_lossy() }),
    )
}

fn show(global: &GlobalArguments, console: Console) -> Result<(), Failure> {
    let chosen = global.sources()?.choose()?;
    let endpoint = chosen.endpoint.map(|(endpoint, origin)| (endpoint.to_string(), origin));
    let path =
        |chosen: Option<(PathBuf, Origin)>| chosen.map(|(path, origin)| (path.to_string_lossy().into_owned(), origin));
    let values = [
        ("endpoint", endpoint),
        ("cert", path(chosen.cert)),
        ("key_file", path(chosen.key_file)),
        ("ca", path(chosen.ca)),
    ];
    let lines: Vec<(&str, String)> = values
        .iter()
        .map(|(name, value)| match value {
            Some((value, origin)) => (*name, format!("{value}  (from {origin})")),
            None => (*name, "not given".to_owned()),
        })
        .collect();
    let context = chosen.context.as_ref();
    let mut document = json!({ "context": context.map(ContextName::as_str) });
    for (name, value) in &values {
        document[*name] = match value {
            Some((value, origin)) => json!({ "value": value, "origin": origin.word() }),
            None => Value::Null,
        };
    }
    let mut all = vec![(
        "context",
        context.map(ToString::to_string).unwrap_or_else(|| "none".to_owned()),
    )];
    all.extend(lines);
    console.result(&fields(console.paint(), &all), &document)
}

fn set(global: &GlobalArguments, console: Console, arguments: &SetContextArguments) -> Result<(), Failure> {
    let file = ContextFile::require()?;
    let (name, given) = (&arguments.name, global.given());
    if given == Context::default() && !arguments.make_current {
        return Err(Failure::Usage(
            "there is nothing to set: give --endpoint, --cert, --key-file or --ca".to_owned(),
        ));
    }
    let mut written = Ok(());
    file.change(|document| {
        written = given.write(name, document);
        if arguments.make_current {
            document[CURRENT] = value(name.as_str());
        }
    })?;
    written.map_err(|error| Failure::Internal(format!("cannot tell the current directory: {error}")))?;
    told(console, &file, name, "is set")
}

fn told(console: Console, file: &ContextFile, name: &ContextName, what: &str) -> Result<(), Failure> {
    let path = file.path();
    console.result(
        &format!("{name} {what} ({})", path.display()),
        &json!({ "name": name.as_str(), "file": path.to_string_lossy() }),
    )
}

fn document(context: &Context) -> Value {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    json!({
        "endpoint": context.endpoint.as_ref().map(ToString::to_string),
        "cert": path(&context.cert),
        "key_file": path(&context.key_file),
        "ca": path(&context.ca),
    })
}

fn text(path: Option<&PathBuf>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

const CURRENT: &str = "current";
const CONTEXT: &str = "context";
