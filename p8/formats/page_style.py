"""How an exported page looks: its style sheet, in both colour schemes. Nothing of it is fetched from anywhere."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--soft:#5f6671;--line:#dfe2e7;--back:#fff;--card:#f5f6f8;--code:#f2f3f5;
--accent:#2457c5;--mine:#eaf1ff;--warn:#9a5b00;--kw:#8b2bb3;--str:#1b7a3d;--num:#a34b00;--com:#6b7280;--fn:#1d5fb8;
--del:#b3261e;--ins:#1b7a3d}
@media (prefers-color-scheme:dark){:root{--ink:#e4e6ea;--soft:#9aa2ae;--line:#30343b;--back:#15171a;--card:#1d2024;
--code:#1f2328;--accent:#8ab4ff;--mine:#1b2740;--warn:#e8b15c;--kw:#d39bf0;--str:#8fd6a5;--num:#f0a977;--com:#8b93a0;
--fn:#8fbcff;--del:#ff8f87;--ins:#8fd6a5}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;text-size-adjust:100%}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
main,footer{max-width:50rem;margin:0 auto;padding:0 1.25rem}
main{padding-top:2rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .75rem}
article>header{border-bottom:1px solid var(--line);padding-bottom:1rem;margin-bottom:1.5rem}
article+article{border-top:4px double var(--line);margin-top:4rem;padding-top:2rem}
dl{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;margin:0;font-size:.85rem;color:var(--soft)}
dl div{display:flex;gap:.4rem;min-width:0}dt{font-weight:600}dd{margin:0;min-width:0;overflow-wrap:anywhere}
.list{padding-left:1.5rem}.list small,h3 a,h3 time{color:var(--soft)}
.day{font-size:.8rem;font-weight:600;color:var(--soft);text-align:center;margin:2rem 0 1rem;text-transform:uppercase;
letter-spacing:.05em}
h3{font-size:.85rem;margin:0 0 .35rem;display:flex;gap:.6rem;align-items:baseline;color:var(--soft)}
h3 bdi{color:var(--ink)}h3 a{text-decoration:none;font-weight:400}
section{margin:0 0 1.1rem;scroll-margin-top:1rem}
section:target{outline:2px solid var(--accent);outline-offset:.4rem;border-radius:.4rem}
.user{background:var(--mine);border-radius:.75rem;padding:.8rem 1rem;margin-top:1.8rem}
.user h3 bdi{color:var(--accent)}
.system{border-left:3px solid var(--line);padding-left:1rem;color:var(--soft)}
.plain{white-space:pre-wrap;overflow-wrap:anywhere}
.checkpoint p,.note,.typed p,.line{margin:.2rem 0;font-size:.88rem;color:var(--soft)}
.checkpoint{text-align:center;border-top:1px dashed var(--line);padding-top:.5rem}.checkpoint b{color:var(--warn)}
.end{margin:.4rem 0 0;font-size:.85rem;color:var(--warn)}
a{color:var(--accent)}
details{border:1px solid var(--line);border-radius:.5rem;background:var(--card);overflow:hidden}
summary{cursor:pointer;padding:.45rem .8rem;font-size:.88rem;overflow-wrap:anywhere}
summary span{color:var(--soft)}summary small,.line small{color:var(--soft);margin-left:.5rem}
summary small.bad,.line small.bad{color:var(--warn)}
details pre,details .plain{margin:0;border-radius:0;border-top:1px solid var(--line);max-height:32rem;overflow:auto}
details .plain{padding:.8rem;color:var(--soft);font-size:.92rem}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.875em}
:not(pre)>code{background:var(--code);border-radius:.3rem;padding:.1em .3em;overflow-wrap:anywhere}
summary>code,.line>code{background:none;padding:0}
pre{background:var(--code);border-radius:.5rem;padding:.8rem 1rem;margin:.8rem 0;overflow-x:auto;line-height:1.5;
tab-size:4;white-space:pre}
pre code{font-size:1em}
.text>:first-child{margin-top:0}.text>:last-child{margin-bottom:0}
.text h1,.text h2,.text h3,.text h4{display:block;font-size:1.08rem;
line-height:1.35;color:inherit;margin:1.3rem 0 .5rem}
.text h1{font-size:1.25rem}.text h2{font-size:1.15rem}
.text blockquote{margin:.8rem 0;padding-left:1rem;border-left:3px solid var(--line);color:var(--soft)}
.text ul,.text ol{padding-left:1.5rem}.text li+li{margin-top:.2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92rem}
th,td{border:1px solid var(--line);padding:.3rem .6rem;text-align:left}th{background:var(--card)}
hr{border:0;border-top:1px solid var(--line);margin:1.5rem 0}
footer{color:var(--soft);font-size:.82rem;border-top:1px solid var(--line);margin-top:3rem;padding-top:1rem;
padding-bottom:3rem}
.k,.kn,.kd,.kc,.kr,.kt,.ow,.nt{color:var(--kw)}.s,.s1,.s2,.sd,.sb,.sh,.si,.se,.sr,.sa,.sx,.dl{color:var(--str)}
.m,.mi,.mf,.mh,.mo,.mb,.il,.no{color:var(--num)}.c,.c1,.cm,.ch,.cp,.cs,.cpf{color:var(--com);font-style:italic}
.nf,.nc,.fm,.nd,.na,.nb,.bp{color:var(--fn)}.gd{color:var(--del)}.gi{color:var(--ins)}.gu,.gh,.go,.gp{color:var(--com)}
@media (max-width:40rem){body{font-size:15px}main,footer{padding-left:.9rem;padding-right:.9rem}main{padding-top:1.2rem}
h1{font-size:1.35rem}pre{padding:.7rem .8rem}.user{padding:.7rem .8rem}}
@media print{body{font-size:11pt;background:#fff;color:#000}details>*{display:block}pre{white-space:pre-wrap}
section,pre{break-inside:avoid-page}.user{border:1px solid #ccc}}
"""
