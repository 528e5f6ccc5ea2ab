//! What shells, editors and readers of manuals want: completions, man pages, JSON schemas.
//! All of it comes from the types that the program itself uses, so it cannot fall behind.

use super::bench;
use crate::cli::{Cli, CompletionsOptions, ManOptions, SchemaOf, SchemaOptions};
use crate::error::{Error, Result, exit};
use crate::expectations::RawEntry;
use crate::manifest::RawManifest;
use crate::report::{json::Document, jsonl};
use clap::CommandFactory;
use schemars::{Schema, schema_for};
use std::io::{self, Write};

/// `assay completions`.
pub fn completions(options: &CompletionsOptions) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "assay", &mut text);
    print(&text)
}

/// `assay man`.
pub fn man(options: &ManOptions) -> Result<u8> {
    let command = Cli::command().name("assay");
    if let Some(dir) = &options.dir {
        std::fs::create_dir_all(dir).map_err(|e| Error::file("create folder", dir, e))?;
        clap_mangen::generate_to(command, dir).map_err(|e| Error::file("write into", dir, e))?;
        return Ok(exit::OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|e| Error::usage(format!("cannot render the page: {e}")))?;
    print(&page)
}

/// The schema of a document.
pub fn schema_of(document: SchemaOf) -> Schema {
    match document {
        SchemaOf::Manifest => schema_for!(RawManifest),
        SchemaOf::Expectations => schema_for!(Vec<RawEntry>),
        SchemaOf::Results => schema_for!(Document),
        SchemaOf::Events => schema_for!(jsonl::Event),
        SchemaOf::Bench => schema_for!(bench::Document),
    }
}

/// `assay schema`.
pub fn schema(options: &SchemaOptions) -> Result<u8> {
    let schema = schema_of(options.document);
    let mut text = serde_json::to_vec_pretty(&schema).unwrap_or_default();
    text.push(b'\n');
    print(&text)
}

fn print(text: &[u8]) -> Result<u8> {
    super::written(io::stdout().lock().write_all(text).map(|()| exit::OK))
}
