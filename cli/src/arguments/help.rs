//! The help of every command, held against the files in `cli/help`.
//!
//! `PORTCULLIS_UPDATE_HELP=1 cargo test -p portcullis-cli help` writes the files anew; look at what changed before you commit.

use super::Arguments;
use clap::{Command, CommandFactory};
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

#[test]
fn the_help_of_every_command_is_the_one_on_file() {
    let found = help_of_all();
    assert!(found.len() > 40, "{} commands", found.len());
    let directory = directory();
    if env::var_os("PORTCULLIS_UPDATE_HELP").is_some() {
        fs::create_dir_all(&directory).expect("the directory");
        for name in on_file(&directory).keys() {
            fs::remove_file(directory.join(name)).expect("an old file goes");
        }
        for (name, help) in &found {
            fs::write(directory.join(name), help).expect("a file");
        }
    }
    let expected = on_file(&directory);
    let names = found.keys().chain(expected.keys());
    let mut different: Vec<&String> = names.filter(|name| found.get(*name) != expected.get(*name)).collect();
    different.dedup();
    assert!(
        different.is_empty(),
        "the help is not the one in {}: {different:?}; if it is better, write it with PORTCULLIS_UPDATE_HELP=1",
        directory.display()
    );
}

#[test]
fn every_command_says_what_it_does() {
    let mut command = Arguments::command();
    command.build();
    let mut silent = Vec::new();
    visit(&command, &mut |path, command| {
        if command.get_about().is_none() {
            silent.push(path.to_owned());
        }
        for argument in command.get_arguments() {
            if argument.get_help().is_none() {
                silent.push(format!("{path} {}", argument.get_id()));
            }
        }
    });
    assert!(silent.is_empty(), "without a word of help: {silent:?}");
}

/// The help by the name of its file.
fn help_of_all() -> BTreeMap<String, String> {
    let mut command = Arguments::command().term_width(WIDTH);
    command.build();
    let mut all = BTreeMap::new();
    let mut global = None;
    visit(&command, &mut |path, command| {
        let help = command.clone().term_width(WIDTH).render_long_help().to_string();
        // Every command has the global options, and one file is enough for them.
        let (own, options) = help.split_once(GLOBAL).expect("global options");
        let options = options
            .split_once("\n\nExit codes:")
            .map_or(options.trim_end(), |(options, _)| options);
        let first = global.get_or_insert_with(|| options.to_owned());
        assert_eq!(first, options, "{path}");
        let is_root = command.get_name() == path;
        all.insert(
            format!("{path}.txt"),
            if is_root {
                help
            } else {
                own.trim_end().to_owned() + "\n"
            },
        );
    });
    all
}

const GLOBAL: &str = "Global options:\n";

/// Visits a command and all below it, but for those that only repeat help.
fn visit(command: &Command, what: &mut impl FnMut(&str, &Command)) {
    let path = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    what(&path, command);
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help" && !below.is_hide_set())
    {
        visit(below, what);
    }
}

fn on_file(directory: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name");
            (name, fs::read_to_string(entry.path()).expect("a file"))
        })
        .collect()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("help")
}

/// As wide as most terminals.
const WIDTH: usize = 100;
