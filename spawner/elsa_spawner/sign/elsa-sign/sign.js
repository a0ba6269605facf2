// SPDX-License-Identifier: Apache-2.0
// The sign in a corner of Notebook and Lab pages: how long the session slept, "keep awake", "sleep
// now". One file for both, as it is: an AMD module to the classic pages, a federated module to Lab.
//
// It asks only when somebody is there: when the page is opened, comes to the front or is touched. A
// tab that is left alone asks for nothing, so that the sign is no poll that keeps a session awake.

(() => {
  "use strict";

  const NAME = "elsa-sign";
  const MINUTE = 60 * 1000;
  const HOUR = 60 * MINUTE;
  const SHOWN_MS = 10 * 1000; // how long it says that the session woke
  const FRESH_MS = 2 * MINUTE; // a wake longer ago is no news to a page that is just opened
  const PAUSE_MS = 15 * 1000; // between two questions, however much the page is touched
  const AFTER_MS = 2 * 1000; // a touch may be what wakes the session: it is asked when that is over
  const CHOICES = [1, 2, 4, 8, 12, 24]; // hours

  // --- text --------------------------------------------------------------------------------------

  function span(ms) {
    for (const [unit, size] of [["d", 24 * HOUR], ["h", HOUR], ["min", MINUTE]])
      if (ms >= size) return `${Math.round(ms / size)} ${unit}`;
    return `${Math.max(1, Math.round(ms / 1000))} s`;
  }

  function seconds(us) {
    const value = us / 1e6;
    return `${value.toFixed(value < 0.1 ? 2 : value < 10 ? 1 : 0)} s`;
  }

  function wokeText(facts) {
    const slept = `slept ${span(facts.woke_at - facts.slept_at)}`;
    return facts.woke_in_us ? `${slept}, woke in ${seconds(facts.woke_in_us)}` : slept;
  }

  function clock(ms) {
    const at = new Date(ms);
    const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    if (at.toDateString() === new Date().toDateString()) return time;
    return `${at.toLocaleDateString([], { weekday: "short" })} ${time}`;
  }

  // --- the session -------------------------------------------------------------------------------

  function baseUrl() {
    const lab = document.getElementById("jupyter-config-data");
    const base = lab ? JSON.parse(lab.textContent).baseUrl : document.body.dataset.baseUrl;
    return decodeURIComponent(base || "/");
  }

  function xsrf() {
    const found = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
    return found ? decodeURIComponent(found[1]) : "";
  }

  async function ask(method, path, body) {
    const answer = await fetch(`${baseUrl()}api/elsa/${path}`, {
      method,
      headers: { "X-XSRFToken": xsrf(), "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error((said.error && said.error.text) || answer.statusText);
    return said;
  }

  // --- the sign ----------------------------------------------------------------------------------

  const STYLE = `
    :host { position: fixed; right: 14px; bottom: 30px; z-index: 900; font: 12px sans-serif;
            text-align: right; }
    :host([hidden]), [hidden] { display: none !important; }
    button { font: inherit; color: inherit; cursor: pointer; border: 1px solid #0003;
             border-radius: 9px; background: none; padding: 2px 8px; margin: 2px 0 2px 4px; }
    button:hover, button:focus-visible { background: #0001; }
    #sign { opacity: 0.45; border: none; transition: opacity 1s; }
    #sign.news, #sign:hover, #sign:focus-visible, #sign[aria-expanded=true] { opacity: 1; }
    #sign, #menu { color: #333; background: #fffe; box-shadow: 0 0 4px #0003; border-radius: 9px; }
    #menu { padding: 6px 10px; margin-bottom: 4px; max-width: 260px; }
    #menu p { margin: 2px 0; }
  `;

  class Sign {
    constructor() {
      this.facts = null;
      this.news = ""; // what it says for a moment
      this.told = 0; // the wake that it has told of
      this.asked = 0; // when it asked last, or is about to
      this.host = document.createElement("div");
      this.host.id = NAME;
      this.host.hidden = true;
      // Without the page's styles, and without its keys: to a notebook "d d" deletes a cell.
      const root = this.host.attachShadow({ mode: "open" });
      for (const kind of ["keydown", "keypress", "keyup"])
        root.addEventListener(kind, (event) => event.stopPropagation());
      root.innerHTML = `<style>${STYLE}</style>
        <div id="menu" role="group" aria-label="Sleep of this session" hidden>
          <p id="state"></p><p id="until"></p><p id="do"></p></div>
        <button id="sign" aria-expanded="false" aria-live="polite"></button>`;
      this.part = (id) => root.getElementById(id);
      this.part("sign").addEventListener("click", () => this.open(this.part("menu").hidden));
      document.body.append(this.host);
      this.watch();
      this.look();
    }

    watch() {
      document.addEventListener("visibilitychange", () => {
        if (!document.hidden) this.lookSoon(0);
      });
      const seen = { capture: true, passive: true };
      for (const kind of ["pointerdown", "keydown"])
        document.addEventListener(kind, () => this.lookSoon(AFTER_MS), seen);
    }

    lookSoon(delay) {
      const now = Date.now();
      if (now < this.asked + PAUSE_MS) return;
      this.asked = now + delay;
      setTimeout(() => this.look(), delay);
    }

    async look() {
      this.asked = Date.now();
      try {
        this.take(await ask("GET", "sleep"));
      } catch (error) {
        // Asleep, moving, or Elsa is away: nothing that a page should complain of.
        console.debug("elsa:", error);
      }
    }

    take(facts) {
      const first = !this.facts;
      this.facts = facts;
      this.host.hidden = false;
      const recent = !first || facts.now - facts.woke_at < FRESH_MS;
      if (facts.slept_at && facts.woke_at > this.told && recent) this.say(wokeText(facts));
      this.told = facts.woke_at;
      this.draw();
    }

    say(text) {
      this.news = text;
      clearTimeout(this.fading);
      this.fading = setTimeout(() => {
        this.news = "";
        this.draw();
      }, SHOWN_MS);
      this.draw();
    }

    awakeUntil() {
      const { now, keep_awake_until: until } = this.facts || {};
      return until > now ? until : 0;
    }

    draw() {
      const sign = this.part("sign");
      const until = this.awakeUntil();
      const text = this.news || (until ? `awake until ${clock(until)}` : "");
      sign.textContent = `\u263e ${text}`.trim();
      sign.title = "Sleep of this session";
      sign.classList.toggle("news", !!this.news);
    }

    open(wanted) {
      this.part("menu").hidden = !wanted;
      this.part("sign").setAttribute("aria-expanded", String(wanted));
      if (wanted && this.facts) this.fill();
    }

    fill() {
      const { facts } = this;
      const until = this.awakeUntil();
      this.part("state").textContent = facts.slept_at
        ? `It ${wokeText(facts)} (at ${clock(facts.woke_at)}).`
        : "Left alone it falls asleep, and wakes as it was.";
      const most = facts.keep_awake_most_ms;
      const ends = CHOICES.map((hours) => hours * HOUR).filter((ms) => ms < most);
      const choices = [...ends, most].filter((ms) => ms > 0).map((ms) =>
        this.button(clock(Date.now() + ms), `awake for ${span(ms)}`, () => this.keepAwake(ms)));
      if (choices.length) choices.unshift("Keep awake until");
      if (until) choices.push(this.button("no longer", "", () => this.keepAwake(0)));
      this.part("until").replaceChildren(...choices);
      this.part("do").replaceChildren(this.button("Sleep now", "", () => this.sleep()));
    }

    button(text, title, act) {
      const button = document.createElement("button");
      button.textContent = text;
      button.title = title;
      button.addEventListener("click", () => {
        this.open(false);
        act().catch((error) => this.say(error.message));
      });
      return button;
    }

    async keepAwake(ms) {
      this.take(await ask("POST", "keep-awake", { for_ms: ms }));
    }

    async sleep() {
      await ask("POST", "sleep", {});
      this.say("falls asleep, and wakes as it was when you come back");
    }
  }

  // --- how pages have it -------------------------------------------------------------------------

  function show() {
    if (!document.getElementById(NAME)) new Sign();
  }

  if (document.getElementById("jupyter-config-data")) {
    // Lab and what is made of it: the container of a federated module, by hand.
    const plugin = { id: `${NAME}:sign`, autoStart: true, activate: show };
    const modules = { "./extension": { __esModule: true, default: plugin } };
    window._JUPYTERLAB = window._JUPYTERLAB || {};
    window._JUPYTERLAB[NAME] = {
      init: () => {},
      get: async (name) => () => modules[name],
    };
  } else {
    // Notebook 6 and nbclassic.
    define({ load_ipython_extension: show });
  }
})();
