// The counterpart of Chinese.split() in conf.py.
function splitQuery(query) {
  return (query.match(/[\u3400-\u9fff]+|(?:(?![\u3400-\u9fff])[\p{L}\p{N}_])+/gu) || []).flatMap((word) =>
    word < "\u3400" || word.length === 1 ? [word] : [...word].slice(1).map((_, i) => word.slice(i, i + 2)));
}
