//! `#[case]`: turns a function into a case, with its record in the payload's case table.
//!
//! ```ignore
//! /// CPU_ON on a running CPU is refused.
//! #[case(spec = "DEN0022 5.6 CPU_ON", needs("cpus>=2"))]
//! fn refuses_a_running_cpu(psci: &mut Psci) -> Verdict { ... }
//! ```
//!
//! | argument | meaning |
//! | --- | --- |
//! | `spec = "..."` | the manual's section; required |
//! | `needs("a", "b")` | words of `assay_protocol::need`; a case whose needs are not met is skipped |
//! | `groups("slow")` | groups beyond those of the unit |
//! | `timeout_s = 60` | seconds, where the unit's limit is too short |
//! | `ends = poweroff` or `reset` | the case passes when the machine does that |
//! | `ends = again` | the machine resets, and the case passes in its second life |
//! | `rows(name: value, ...)` | one case per row; the function's last parameter is the value |
//!
//! Each parameter before the row is a fixture: `&mut T`, `&T` or `T` with `T: Fixture`, built
//! fresh for the case. Names that break the slug rule are refused at compile time.

use assay_protocol::id;
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Error, Expr, FnArg, Ident, ItemFn, LitInt, LitStr, Result, Token, Type,
    parenthesized, parse_macro_input,
};

/// Makes a function a case. See the crate's documentation.
#[proc_macro_attribute]
pub fn case(
    arguments: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let arguments = parse_macro_input!(arguments as Arguments);
    let function = parse_macro_input!(item as ItemFn);
    expand(arguments, function)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

struct Row {
    name: Ident,
    value: Expr,
}

impl Parse for Row {
    fn parse(input: ParseStream) -> Result<Self> {
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        Ok(Row {
            name,
            value: input.parse()?,
        })
    }
}

#[derive(Default)]
struct Arguments {
    spec: Option<LitStr>,
    needs: Vec<LitStr>,
    groups: Vec<LitStr>,
    timeout_s: Option<LitInt>,
    ends: Option<Ident>,
    rows: Option<Vec<Row>>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut all = Arguments::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            match key.to_string().as_str() {
                "spec" => {
                    input.parse::<Token![=]>()?;
                    all.spec = Some(input.parse()?);
                }
                "needs" => all.needs = list(input)?,
                "groups" => all.groups = list(input)?,
                "timeout_s" => {
                    input.parse::<Token![=]>()?;
                    all.timeout_s = Some(input.parse()?);
                }
                "ends" => {
                    input.parse::<Token![=]>()?;
                    all.ends = Some(input.parse()?);
                }
                "rows" => all.rows = Some(list(input)?),
                _ => {
                    return Err(Error::new(
                        key.span(),
                        "expected spec, needs, groups, timeout_s, ends or rows",
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(all)
    }
}

fn list<T: Parse>(input: ParseStream) -> Result<Vec<T>> {
    let inner;
    parenthesized!(inner in input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated(&inner)?
        .into_iter()
        .collect())
}

fn expand(arguments: Arguments, function: ItemFn) -> Result<TokenStream> {
    let name = &function.sig.ident;
    check_name(name)?;
    let spec = arguments
        .spec
        .ok_or_else(|| Error::new(name.span(), "a case needs spec = \"<document> <section>\""))?;
    let doc = first_paragraph(&function.attrs);
    if doc.is_empty() {
        return Err(Error::new(
            name.span(),
            "a case needs a doc line that states its rule",
        ));
    }
    for need in &arguments.needs {
        if assay_protocol::need::parse(&need.value()).is_none() {
            let text = format!("'{}' is not in assay_protocol::need::NEEDS", need.value());
            return Err(Error::new(need.span(), text));
        }
    }
    for group in &arguments.groups {
        if !id::is_segment(&group.value()) {
            return Err(Error::new(group.span(), "a group is a lower-case slug"));
        }
    }
    let needs = join(&arguments.needs);
    let groups = join(&arguments.groups);
    let timeout_s = arguments
        .timeout_s
        .map_or(0u32, |t| t.base10_parse::<u32>().unwrap_or(0));
    let ends = match &arguments.ends {
        None => quote!(Returns),
        Some(word) if word == "poweroff" => quote!(Poweroff),
        Some(word) if word == "reset" => quote!(Reset),
        Some(word) if word == "again" => quote!(Again),
        Some(word) => return Err(Error::new(word.span(), "expected poweroff, reset or again")),
    };

    let parameters = parameter_types(&function)?;
    let (fixtures, rows) = match arguments.rows {
        None => (&parameters[..], vec![(name.to_string(), None)]),
        Some(rows) => {
            let Some((_, fixtures)) = parameters.split_last() else {
                let text = "rows need a last parameter that takes the row's value";
                return Err(Error::new(name.span(), text));
            };
            let mut named = Vec::new();
            for row in rows {
                check_name(&row.name)?;
                named.push((format!("{name}/{}", row.name), Some(row.value)));
            }
            (fixtures, named)
        }
    };
    let row_type = parameters.last();

    let records = rows.into_iter().map(|(path, value)| {
        let mut build = Vec::new();
        let mut pass = Vec::new();
        for (i, fixture) in fixtures.iter().enumerate() {
            let variable = Ident::new(&format!("fixture{i}"), Span::mixed_site());
            let (inner, argument) = match fixture {
                Type::Reference(r) if r.mutability.is_some() => (&*r.elem, quote!(&mut #variable)),
                Type::Reference(r) => (&*r.elem, quote!(&#variable)),
                other => (other, quote!(#variable)),
            };
            let mutable = matches!(fixture, Type::Reference(r) if r.mutability.is_some())
                .then(|| quote!(mut));
            build.push(quote! {
                let #mutable #variable = <#inner as ::guest_lib::case::Fixture>::fresh()?;
            });
            pass.push(argument);
        }
        let value = value.map(|v| {
            pass.push(quote!(row));
            quote!(let row: #row_type = #v;)
        });
        quote! {
            const _: () = {
                fn run() -> ::guest_lib::case::Verdict {
                    #(#build)*
                    #value
                    #name(#(#pass),*)
                }
                #[expect(unsafe_code, reason = "the case table is a link section")]
                #[used]
                #[unsafe(link_section = ".assay.cases")]
                static RECORD: ::guest_lib::protocol::table::Record =
                    ::guest_lib::protocol::table::Record {
                        module: ::guest_lib::protocol::table::Text::new(module_path!()),
                        name: ::guest_lib::protocol::table::Text::new(#path),
                        doc: ::guest_lib::protocol::table::Text::new(#doc),
                        spec: ::guest_lib::protocol::table::Text::new(#spec),
                        needs: ::guest_lib::protocol::table::Text::new(#needs),
                        groups: ::guest_lib::protocol::table::Text::new(#groups),
                        file: ::guest_lib::protocol::table::Text::new(file!()),
                        line: line!(),
                        timeout_s: #timeout_s,
                        ends: ::guest_lib::protocol::table::Ends::#ends as u32,
                        reserved: 0,
                        run: run as fn() -> ::guest_lib::case::Verdict as *const (),
                    };
            };
        }
    });
    Ok(quote! {
        #function
        #(#records)*
    })
}

fn check_name(name: &Ident) -> Result<()> {
    let text = name.to_string();
    if !id::is_segment(&text) || text.len() > id::MAX_NAME {
        let text = format!(
            "'{text}' must match [a-z][a-z0-9]*(_[a-z0-9]+)* and have at most {} characters",
            id::MAX_NAME
        );
        return Err(Error::new(name.span(), text));
    }
    if text.starts_with("test_") {
        return Err(Error::new(
            name.span(),
            "a case states a rule; drop the test_ prefix",
        ));
    }
    Ok(())
}

fn join(words: &[LitStr]) -> String {
    words
        .iter()
        .map(LitStr::value)
        .collect::<Vec<_>>()
        .join(" ")
}

fn parameter_types(function: &ItemFn) -> Result<Vec<Type>> {
    let typed = |input: &FnArg| match input {
        FnArg::Typed(typed) => Ok((*typed.ty).clone()),
        FnArg::Receiver(r) => Err(Error::new(r.self_token.span, "a case is a plain function")),
    };
    function.sig.inputs.iter().map(typed).collect()
}

/// The doc comment up to its first empty line, as one line.
fn first_paragraph(attributes: &[Attribute]) -> String {
    let mut words: Vec<String> = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("doc")) {
        let syn::Meta::NameValue(meta) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(literal) = &meta.value else {
            continue;
        };
        let syn::Lit::Str(text) = &literal.lit else {
            continue;
        };
        let line = text.value().trim().to_string();
        if line.is_empty() {
            break;
        }
        words.push(line);
    }
    words.join(" ")
}
