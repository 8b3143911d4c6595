// What the search puts first: pages that answer, then pages that explain, then records.
// docs/check_site.py reads `pages`, and holds the search to its questions.
var Scorer = {
  pages: {
    "faq": 6,
    "getting_started": 3,
    "how_to/": 4,
    "tutorials/": 2,
    "api/": -1,
    "changelog": -8,
  },
  // A heading that holds the query is nearer than its page.
  score: ([docname, title, anchor, description, score, file, kind]) => {
    const place = Object.keys(Scorer.pages).find((p) => docname.startsWith(p));
    const heading = kind === "title" && anchor ? 10 : 0;
    return score + heading + (Scorer.pages[place] || 0);
  },
  objNameMatch: 25,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
