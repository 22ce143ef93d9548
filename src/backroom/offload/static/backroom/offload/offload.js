// Follows one operation: by server-sent events where they arrive, else by asking for its status.
// Without this script the page reloads itself. Nothing here needs a build step or another script.
"use strict";

(() => {
  const SPOKEN_EVERY = 10_000; // a screen reader hears of progress at most this often
  const SPOKEN_STEP = 10; // and only after so many percent
  const LONGEST_PAUSE = 15_000;
  const HIDDEN_PAUSE = 5_000;

  const root = document.querySelector("[data-offload]");
  if (!root) return;

  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const words = JSON.parse(document.getElementById("offload-words").textContent);
  const title = document.getElementById("offload-title").textContent;
  const createdAt = Date.parse(root.dataset.createdAt);
  const skew = serverSkew();

  let isOver = false;
  let canStream = Boolean(window.EventSource);
  let source = null;
  let isPolling = false;
  let etag = "";
  let spokenAt = 0;
  let spokenPercent = 0;
  let spokenState = root.dataset.state;

  // ── Showing ─────────────────────────────────────────────────────────────────────────────────

  function show(operation) {
    if (isOver) return;
    setTrouble(false);
    if (operation.is_finished) {
      finish();
      return;
    }
    const percent = operation.progress ? operation.progress.percent : null;
    const state = words.states[operation.state] || operation.state;
    root.dataset.state = operation.state;
    setText("state", state);
    setText("note", words.notes[operation.state] || words.notes[""]);
    setText("message", operation.progress ? operation.progress.message : "");
    setText("percent", percent === null ? "" : `${percent}%`);
    document.title = percent === null ? title : `${percent}% · ${title}`;
    showBar(percent, percent === null ? state : `${percent}%`);
    part("cancel").hidden = !operation.links.cancel;
    speak(operation.state, state, percent);
  }

  function showBar(percent, text) {
    const bar = part("bar");
    part("meter").classList.toggle("is-indeterminate", percent === null);
    if (percent === null) {
      bar.removeAttribute("aria-valuenow");
    } else {
      bar.setAttribute("aria-valuenow", percent);
      part("fill").setAttribute("width", `${percent}%`);
    }
    bar.setAttribute("aria-valuetext", text);
  }

  function speak(state, word, percent) {
    const now = Date.now();
    const isNewState = state !== spokenState;
    const isStep = percent !== null && percent - spokenPercent >= SPOKEN_STEP && now - spokenAt >= SPOKEN_EVERY;
    if (!isNewState && !isStep) return;
    spokenState = state;
    spokenAt = now;
    spokenPercent = percent === null ? spokenPercent : percent;
    setText("live", percent === null ? word : `${word}, ${percent}%`);
  }

  function setText(name, text) {
    const element = part(name);
    if (element.textContent !== text) element.textContent = text;
  }

  function setTrouble(isOn) {
    part("trouble").hidden = !isOn;
  }

  function showElapsed() {
    if (isOver) return;
    const seconds = Math.max(0, Math.floor((Date.now() + skew - createdAt) / 1000));
    const clock = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    const shown = clock[0] ? clock : clock.slice(1);
    setText("elapsed", shown.map((value, index) => (index ? String(value).padStart(2, "0") : value)).join(":"));
  }

  function serverSkew() {
    // The page was rendered just now by the server's clock; the visitor's may be off by hours.
    const renderedAt = Date.parse(root.dataset.now);
    return Number.isNaN(renderedAt) ? 0 : renderedAt - Date.now();
  }

  function finish() {
    isOver = true;
    showBar(100, "100%");
    document.title = title;
    setText("live", words.finished);
    // Replaced rather than followed, so that Back leads to where the visitor came from.
    location.replace(root.dataset.nextUrl);
  }

  // ── Following ───────────────────────────────────────────────────────────────────────────────

  function follow() {
    if (isOver) return;
    // A browser opens six connections to a site at most, so a tab that nobody looks at keeps none of them.
    if (document.hidden || !canStream) poll();
    else if (!source) stream();
  }

  function stream() {
    source = new EventSource(root.dataset.eventsUrl);
    let failures = 0;
    const onEvent = (event) => {
      failures = 0;
      const operation = JSON.parse(event.data);
      if (operation.is_finished) stopStream();
      show(operation);
    };
    source.addEventListener("status", onEvent);
    source.addEventListener("end", onEvent);
    source.addEventListener("open", () => setTrouble(false));
    source.addEventListener("error", () => {
      failures += 1;
      // CLOSED: the server streams nothing here. Otherwise the browser tries again by itself, a few times.
      if (source && (source.readyState === EventSource.CLOSED || failures > 3)) {
        canStream = false;
        stopStream();
        follow();
      }
    });
  }

  function stopStream() {
    if (source) source.close();
    source = null;
  }

  async function poll() {
    if (isPolling) return;
    isPolling = true;
    let failures = 0;
    while (!isOver && !source) {
      let pause = document.hidden ? HIDDEN_PAUSE : 1000;
      try {
        const headers = { Accept: "application/json" };
        if (etag) headers["If-None-Match"] = etag;
        const response = await fetch(root.dataset.statusUrl, { headers, cache: "no-store", credentials: "same-origin" });
        if (response.status === 404 || response.status === 403) {
          // No longer this visitor's, after signing out for example: the page itself says what to do.
          location.replace(root.dataset.nextUrl);
          return;
        }
        if (!response.ok && response.status !== 304) throw new Error(response.statusText);
        failures = 0;
        setTrouble(false);
        pause = Math.max(pause, 1000 * (Number(response.headers.get("Retry-After")) || 1));
        etag = response.headers.get("ETag") || etag;
        if (response.status === 200) show(await response.json());
      } catch {
        failures += 1;
        setTrouble(failures > 1);
        pause = Math.min(LONGEST_PAUSE, 1000 * 2 ** failures);
      }
      await wait(pause);
    }
    isPolling = false;
  }

  function wait(milliseconds) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        document.removeEventListener("visibilitychange", done);
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      // Coming back to the tab is a reason to look at once.
      document.addEventListener("visibilitychange", done);
    });
  }

  // ── Cancelling ──────────────────────────────────────────────────────────────────────────────

  part("cancel").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const token = form.querySelector("input[name=csrfmiddlewaretoken]");
      const headers = { Accept: "application/json", "X-CSRFToken": token ? token.value : "" };
      const response = await fetch(root.dataset.statusUrl, { method: "DELETE", headers, credentials: "same-origin" });
      if (response.ok) show(await response.json());
      else if (response.status !== 409) throw new Error(response.statusText);
    } catch {
      // The plain form does the same.
      HTMLFormElement.prototype.submit.call(form);
    }
    button.disabled = false;
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stopStream();
    follow();
  });
  window.addEventListener("pageshow", (event) => {
    // The browser's Back may bring this page as it was left; by now there may be a result.
    if (event.persisted) location.reload();
  });
  showElapsed();
  setInterval(showElapsed, 1000);
  follow();
})();
