// Small additions to pages that work without them: live progress, uploads in pieces, menus that close.
"use strict";
(() => {
  const token = () => document.querySelector('meta[name="token"]')?.content ?? "";

  // Live progress: the server sends the same HTML that the page has.
  for (const box of document.querySelectorAll("[data-events]")) {
    const source = new EventSource(box.dataset.events);
    source.addEventListener("show", (event) => { box.innerHTML = event.data; });
    source.addEventListener("end", () => { source.close(); location.reload(); });
    addEventListener("pagehide", () => source.close());
  }

  // A menu closes on a click elsewhere, and on Escape.
  const menus = () => document.querySelectorAll("details.me[open]");
  addEventListener("click", (event) => { for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false; });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus()) { menu.open = false; menu.querySelector("summary").focus(); }
  });

  // A graph shows its newest end first.
  for (const box of document.querySelectorAll(".graph-box")) box.scrollLeft = box.scrollWidth;

  // "All" boxes.
  for (const box of document.querySelectorAll("input[data-all]")) {
    box.addEventListener("change", () => {
      for (const one of document.querySelectorAll(`input[name="${box.dataset.all}"]`)) one.checked = box.checked;
    });
  }

  // An upload in pieces: it continues where it stopped.
  const drop = document.querySelector("[data-upload]");
  if (drop) {
    const input = drop.querySelector("input[type=file]");
    const bar = drop.querySelector("progress");
    const words = drop.querySelector("[data-words]");
    const piece = 4 << 20;
    const ask = (url, options = {}) => fetch(url, { ...options, headers: { "X-Token": token(), ...options.headers } });
    const send = async (file) => {
      const name = file.name.replace(/[^A-Za-z0-9._+-]/g, "-").replace(/^[.-]+/, "");
      const place = drop.dataset.upload + encodeURIComponent(name);
      bar.hidden = false;
      let sent = Number(await (await ask(place)).text()) || 0;
      for (let failures = 0; ;) {
        bar.value = sent; bar.max = Math.max(file.size, 1);
        words.textContent = `${name}: ${Math.floor((100 * sent) / Math.max(file.size, 1))} %`;
        const end = Math.min(sent + piece, file.size);
        try {
          const answer = await ask(`${place}?offset=${sent}&total=${file.size}`, { method: "PUT", body: file.slice(sent, end) });
          if (!answer.ok && answer.status !== 409) { words.textContent = await answer.text(); return; }
          const text = await answer.text();
          if (answer.status === 409) { sent = Number(answer.headers.get("X-Arrived") ?? NaN); if (Number.isNaN(sent)) { words.textContent = text; return; } continue; }
          if (text === "complete") { location.href = drop.dataset.then + encodeURIComponent(name); return; }
          sent = Number(text); failures = 0;
        } catch (error) {
          if (++failures > 30) { words.textContent = String(error); return; }
          await new Promise((resolve) => setTimeout(resolve, 1000));
          try { sent = Number(await (await ask(place)).text()) || 0; } catch { /* the next round tries again */ }
        }
      }
    };
    input.addEventListener("change", () => { if (input.files[0]) send(input.files[0]); });
    for (const kind of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
      });
    }
  }
})();
