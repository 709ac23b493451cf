"""The style of the structure's page: two themes, wide and narrow, every rule below ``.vit-structure``."""

from __future__ import annotations

_LIGHT = (
    "--bg:#fff;--fg:#1d2433;--soft:#5b6477;--line:#e3e7ef;--band:#f5f7fb;--tag:#eaeef6;--bar:#9db4e8;"
    "--embed:#2f6fde;--attend:#8a4fd0;--mlp:#12855a;--classify:#c05f12;--bad:#b3261e;--badbg:#fde7e5"
)
_DARK = (
    "--bg:#14171f;--fg:#e6e9f0;--soft:#a0a9bb;--line:#2a303d;--band:#1b202b;--tag:#272e3c;--bar:#4a68ad;"
    "--embed:#74a4ff;--attend:#c39bff;--mlp:#4fcf9c;--classify:#f2a25e;--bad:#ff9a91;--badbg:#48201d"
)

# A notebook has a theme of its own (JupyterLab, VS Code), which wins over the system's.
STYLE = (
    f".vit-structure{{{_LIGHT};color-scheme:light}}"
    f"@media (prefers-color-scheme:dark){{.vit-structure{{{_DARK};color-scheme:dark}}}}"
    f"[data-jp-theme-light=true] .vit-structure,.vscode-light .vit-structure{{{_LIGHT};color-scheme:light}}"
    f"[data-jp-theme-light=false] .vit-structure,.vscode-dark .vit-structure{{{_DARK};color-scheme:dark}}"
    """
.vit-structure-page{margin:0}
.vit-structure{container-type:inline-size;background:var(--bg);color:var(--fg);
 padding:1.25rem clamp(.75rem,3cqi,2rem);
 min-height:100%;box-sizing:border-box;
 font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans CJK SC","Noto Sans SC",
 "PingFang SC","Microsoft YaHei",sans-serif}
.vit-structure-page .vit-structure{min-height:100vh}
.vit-structure *{box-sizing:border-box}
.vit-structure h1{font-size:1.6rem;line-height:1.2;margin:0;color:inherit;overflow-wrap:anywhere}
.vit-structure h2{font-size:1.15rem;margin:2rem 0 .75rem;color:inherit}
.vit-structure header p,.vit-structure footer p{margin:.25rem 0;color:var(--soft)}
.vit-structure footer{font-size:.87em;padding-top:.75rem;max-width:75em}
.vit-structure code{font:.92em/1.4 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;
 background:none;
 color:inherit;padding:0;overflow-wrap:anywhere}
.vit-structure .vs-facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(14rem,1fr));gap:.75rem;
 margin:1rem 0}
.vit-structure .vs-facts div{background:var(--band);border:1px solid var(--line);border-radius:.6rem;
 padding:.6rem .9rem}
.vit-structure dt{color:var(--soft);font-size:.85em;font-weight:400}
.vit-structure dd{margin:0;font-size:1.45rem;font-weight:650;font-variant-numeric:tabular-nums}
.vit-structure dd small{display:block;font-size:.85rem;font-weight:400;color:var(--soft)}
.vit-structure .vs-row{display:grid;
 grid-template-columns:minmax(0,27fr) minmax(0,12fr) 6.8rem 8.6rem minmax(0,25fr);
 gap:0 1rem;padding:.4rem .6rem;border-bottom:1px solid var(--line);align-items:start}
.vit-structure .vs-head{color:var(--soft);font-size:.85em;border-bottom:2px solid var(--line)}
.vit-structure details,.vit-structure summary{margin:0;padding:0;background:none;border:0}
.vit-structure summary{list-style:none;cursor:pointer;display:block}
.vit-structure summary::-webkit-details-marker{display:none}
.vit-structure summary:hover .vs-row{background:var(--band)}
.vit-structure summary:focus-visible{outline:2px solid var(--embed);outline-offset:-2px}
.vit-structure .vs-name{position:relative;padding-left:calc(var(--depth)*.95rem + 1.15rem);min-width:0}
.vit-structure .vs-name::before{content:"";position:absolute;left:calc(var(--depth)*.95rem + .3rem);
 top:.25em;width:.22rem;
 height:1em;border-radius:1rem;background:var(--line)}
.vit-structure summary .vs-name::before{content:"▾";background:none;color:var(--soft);width:auto;
 height:auto;top:0;
 left:calc(var(--depth)*.95rem)}
.vit-structure details:not([open])>summary .vs-name::before{content:"▸"}
.vit-structure .vs-embed .vs-name::before{background:var(--embed);color:var(--embed)}
.vit-structure .vs-attend .vs-name::before{background:var(--attend);color:var(--attend)}
.vit-structure .vs-mlp .vs-name::before{background:var(--mlp);color:var(--mlp)}
.vit-structure .vs-classify .vs-name::before{background:var(--classify);color:var(--classify)}
.vit-structure summary .vs-row .vs-name::before{background:none}
.vit-structure .vs-name b{font-weight:650;overflow-wrap:anywhere}
.vit-structure .vs-name i{font-style:normal;color:var(--soft);overflow-wrap:anywhere}
.vit-structure .vs-times{font-weight:650;color:var(--attend);white-space:nowrap}
.vit-structure .vs-paths{display:flex;flex-direction:column;color:var(--soft);font-size:.8em;
 line-height:1.45}
.vit-structure .vs-paths code span{white-space:nowrap}
.vit-structure .vs-shape{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.vit-structure .vs-n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.vit-structure .vs-zero{color:var(--soft);opacity:.6}
.vit-structure .vs-bar{display:block;height:.2rem;margin-top:.15rem;border-radius:1rem;
 background:linear-gradient(to left,var(--bar) var(--share),var(--line) 0)}
.vit-structure .vs-tag{font-style:normal;font-size:.76em;line-height:1.6;background:var(--tag);
 color:var(--soft);
 border-radius:.4rem;padding:.05rem .4rem;margin-left:.35rem;white-space:nowrap;display:inline-block;
 vertical-align:.05em}
.vit-structure .vs-unknown{background:var(--badbg);color:var(--bad)}
.vit-structure .vs-eq{margin-left:0}
.vit-structure .vs-inert :is(b,i,.vs-text,.vs-shape){opacity:.65}
.vit-structure .vs-scroll{overflow-x:auto}
.vit-structure table{border-collapse:collapse;font-size:.93em;color:inherit;margin:0}
.vit-structure th,.vit-structure td{padding:.25rem .9rem .25rem .4rem;border:0;
 border-bottom:1px solid var(--line);
 text-align:left;background:none;white-space:nowrap}
.vit-structure :is(td,th).vs-n{text-align:right}
.vit-structure tr.vs-result td{background:var(--band);font-weight:600}
@container (max-width:62rem){
.vit-structure .vs-head{display:none}
.vit-structure .vs-row{grid-template-columns:minmax(0,1fr) 6.8rem 8.6rem;gap:.2rem .75rem;
 --in:calc(var(--depth)*.95rem + 1.15rem)}
.vit-structure :is(.vs-name,.vs-text){grid-column:1/-1}
.vit-structure .vs-row>:is(.vs-text,.vs-shape){padding-left:var(--in)}
.vit-structure .vs-row>.vs-n::before{content:attr(data-label);display:block;font-size:.76em;
 line-height:1.3;color:var(--soft)}
}
@container (max-width:32rem){
.vit-structure .vs-row{grid-template-columns:minmax(0,1fr) minmax(0,1fr);
 --in:calc(var(--depth)*.5rem + 1.15rem)}
.vit-structure .vs-name{padding-left:var(--in)}
.vit-structure .vs-row .vs-name::before{left:calc(var(--depth)*.5rem + .3rem)}
.vit-structure summary .vs-row .vs-name::before{left:calc(var(--depth)*.5rem)}
.vit-structure .vs-shape{grid-column:1/-1}
.vit-structure .vs-row>.vs-n{text-align:left}
.vit-structure .vs-shape+.vs-n{padding-left:var(--in)}
.vit-structure .vs-bar{background:linear-gradient(to right,var(--bar) var(--share),var(--line) 0)}
}
@media print{.vit-structure{"""
    + _LIGHT
    + """}}
"""
)
