//! The page around the plots: how it ended in words, what changed, how long each step took, how traffic was judged.

mod tables;
mod words;

use super::Page;
use model::UnixMs;
use std::fmt::Write;
use words::Outcome;

const STYLE: &str = "
:root{color-scheme:light dark;--fg:#1c2024;--dim:#60646c;--bg:#f7f8fa;--card:#fff;--edge:#dfe2e7;--good:#18794e;--bad:#c62a2f;--warn:#9a5b00;--c0:#0b68cb;--c1:#b35309}
@media (prefers-color-scheme:dark){:root{--fg:#edeef0;--dim:#9a9fa8;--bg:#111214;--card:#191a1d;--edge:#34373d;--good:#4cc38a;--bad:#ff7b80;--warn:#f5b061;--c0:#70b8ff;--c1:#f5b061}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1080px;margin:2.5rem auto;padding:0 1.25rem}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 .6rem}h1.bad{color:var(--bad)}h1.warn{color:var(--warn)}h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
.over{color:var(--dim);margin:0;letter-spacing:.02em}.lead{font-size:1.05rem;max-width:46rem;margin:0 0 1.4rem}.note{color:var(--dim);margin:-.3rem 0 .6rem;max-width:46rem}
.dim,figcaption,th{color:var(--dim)}.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.card,figure,table{background:var(--card);border:1px solid var(--edge);border-radius:8px}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.8rem 1rem;padding:.9rem 1.1rem;margin:0}
dt{color:var(--dim);font-size:.85rem}dd{margin:0;font-size:1.1rem;font-variant-numeric:tabular-nums}
.alarm{border-left:4px solid var(--bad);padding:.7rem 1.1rem;margin:0 0 1.2rem}.alarm ul{margin:.3rem 0 0;padding-left:1.2rem}
table{border-collapse:separate;border-spacing:0;width:100%}th,td{text-align:left;padding:.45rem .8rem;border-bottom:1px solid var(--edge);vertical-align:top}
tr:last-child>td{border-bottom:0}th{font-weight:500;font-size:.85rem}th.n,td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}th.g{text-align:center;border-bottom:0;padding-bottom:0}
td .one{white-space:nowrap}td small{display:block;color:var(--dim)}.bar{position:relative;height:.8rem;margin-top:.35rem;min-width:12rem;border-radius:3px;background:color-mix(in srgb,var(--edge) 45%,transparent)}
.bar i{position:absolute;top:0;bottom:0;min-width:3px;border-radius:3px;background:var(--c0)}.bar i.failed{background:var(--bad)}.ends{display:flex;justify-content:space-between}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:1rem}figure{margin:0;padding:.8rem .9rem .5rem}figcaption b{color:var(--fg)}figcaption span{white-space:nowrap}
svg{display:block;width:100%;height:auto;margin-top:.3rem}svg text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--edge);fill:none}.span{fill:var(--c0);opacity:.07}.mark{stroke:var(--dim);stroke-dasharray:3 3;fill:none}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.line.c0{stroke:var(--c0)}.line.c1{stroke:var(--c1)}.key{display:inline-block;width:.7rem;height:.7rem;border-radius:2px;margin:0 .3rem 0 .9rem}.key.c0{background:var(--c0)}.key.c1{background:var(--c1)}
details{margin-top:2rem}summary{cursor:pointer;font-weight:600;margin-bottom:.6rem}footer{color:var(--dim);font-size:.85rem;margin:2.5rem 0 1rem}
@media print{body{margin:0;background:none}figure,tr{break-inside:avoid}}
";

/// Makes a text harmless in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// Draws the page.
pub fn html(page: &Page) -> String {
    let operation = &page.operation;
    let mut out = String::with_capacity(64 * 1024);
    let outcome = Outcome::of(operation);
    let headline = escape(&words::headline(operation, outcome));
    // Writing into a text never fails.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}: {headline}</title>\
         <style>{STYLE}</style></head><body>\n<p class=\"over\">Health report · {}</p>\n<h1 class=\"{}\">{headline}</h1>\n",
        operation.id,
        escape(&words::identity(operation)),
        outcome.class(),
    );
    let _ = writeln!(out, "<p class=\"lead\">{}</p>", escape(&words::lead(page)));
    tables::failures(&mut out, operation);
    tables::facts(&mut out, page, outcome);
    tables::changes(&mut out, operation, outcome);
    tables::steps(&mut out, operation, page.written_at);
    tables::verdicts(&mut out, &operation.verdicts);
    plots(&mut out, page);
    tables::log(&mut out, operation);
    let _ = write!(
        out,
        "<footer>Written by Springtide at {}, with the last step of {}.</footer>\n</body></html>\n",
        words::utc(page.written_at),
        operation.id
    );
    out
}

fn plots(out: &mut String, page: &Page) {
    if page.plots.is_empty() {
        return;
    }
    out.push_str(
        "<h2>The service around the operation</h2>\n<p class=\"note\">Shaded: while the operation ran. Dashed: when a gray \
         stage was judged.</p>\n<div class=\"plots\">",
    );
    page.plots.iter().for_each(|plot| out.push_str(&plot.svg()));
    out.push_str("</div>\n");
}

/// When the operation ended, or this page was written.
fn ended_at(page: &Page) -> UnixMs {
    page.operation.finished_at.unwrap_or(page.written_at)
}
