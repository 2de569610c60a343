// Asks the ticked models in turn; each answer comes into its own card as it is there.
"use strict";
(() => {
  const form = document.getElementById("ask");
  if (!form) return;
  const get = (id) => document.getElementById(id);
  const state = get("ask-state"), answers = get("answers"), stop = get("ask-stop"), example = get("example"), context = get("context");
  let round = 0, controller = null;

  const choose = () => {
    const option = example.selectedOptions[0];
    if (option.value) context.value = option.value;
    get("outcome").textContent = option.dataset.outcome ? `What happened: ${option.dataset.outcome}.` : "";
  };
  example?.addEventListener("change", choose);
  context.addEventListener("input", () => {
    if (example && context.value !== example.value) {
      example.value = "";
      get("outcome").textContent = "";
    }
  });

  const card = (name) => {
    const made = document.createElement("section"), heading = document.createElement("h3"), body = document.createElement("div");
    made.className = "panel answer";
    heading.textContent = name;
    body.textContent = "waiting";
    made.append(heading, body);
    answers.append(made);
    return body;
  };
  const ask = async (body, model) => {
    body.textContent = "asking…";
    const fields = new URLSearchParams({ token: form.elements.token.value, context: context.value, model });
    try {
      const answer = await fetch(form.action, { method: "POST", body: fields, signal: controller.signal });
      const text = await answer.text();
      if (answer.headers.get("content-type")?.startsWith("text/html") && answer.headers.has("x-answer")) body.innerHTML = text; // escaped on the server
      else body.textContent = `Not answered (status ${answer.status}); reload this page`;
    } catch (error) {
      body.textContent = error.name === "AbortError" ? "stopped" : `No answer (${error.message}). Is candletune ui still running?`;
    }
  };
  const end = () => { stop.hidden = true; controller = null; };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const ticked = [...form.querySelectorAll('input[name="model"]:checked')];
    if (!ticked.length) { state.textContent = "Tick a model first"; return; }
    controller?.abort();
    controller = new AbortController();
    const mine = ++round, own = controller;
    answers.replaceChildren();
    stop.hidden = false;
    const cards = ticked.map((input) => [card(input.dataset.name), input.value]);
    let done = 0;
    for (const [body, model] of cards) {
      state.textContent = `Asking ${done + 1} of ${cards.length}`;
      await ask(body, model);
      if (mine !== round) return;
      if (own.signal.aborted) break;
      done++;
    }
    for (const [body] of cards.slice(done + 1)) body.textContent = "stopped";
    state.textContent = own.signal.aborted ? "Stopped" : `${done} answered`;
    end();
  });
  stop.addEventListener("click", () => controller?.abort());
})();
