// The live part: a warning before the session ends, and the race on the page about the session.
// Everything else works without this file.
"use strict";

const post = (address) => fetch(address, { method: "POST", redirect: "manual" });

// A warning before the end, with "stay logged in". The question itself is no activity.
{
  const warning = document.getElementById("ending");
  const text = document.getElementById("ending-text");
  const button = document.getElementById("ending-stay");
  const warnAt = Number(warning?.dataset.warnSeconds);
  let next, ticking;
  // Whatever comes later is another session's, such as that of the goodbye.
  let isOver = false;

  const later = (seconds) => {
    clearTimeout(next);
    // Others may have moved the end meanwhile, so nobody sleeps for longer than an hour.
    next = setTimeout(ask, 1000 * Math.min(Math.max(seconds, 1), 3600));
  };

  const hide = () => {
    clearInterval(ticking);
    warning.hidden = true;
  };

  const tell = (words, offersToStay) => {
    clearInterval(ticking);
    text.textContent = words;
    button.hidden = !offersToStay;
    warning.hidden = false;
  };

  const warn = (left, isLast) => {
    const wasHidden = warning.hidden;
    const until = Date.now() + 1000 * left;
    const show = () => {
      const seconds = Math.max(0, Math.round((until - Date.now()) / 1000));
      text.textContent = isLast
        ? `You will be logged out in ${seconds} s, whatever you do. Save your work, then log in again.`
        : `You will be logged out in ${seconds} s.`;
    };
    tell("", !isLast);
    show();
    ticking = setInterval(show, 1000);
    if (wasHidden && !isLast) button.focus({ preventScroll: true });
  };

  const end = (words) => {
    isOver = true;
    clearTimeout(next);
    tell(words, false);
  };

  const ask = async () => {
    if (isOver) return;
    let answer;
    try {
      answer = await fetch("/session/remaining", { cache: "no-store" });
    } catch {
      return later(30);
    }
    if (isOver) return;
    if (answer.status === 401) return end("You are logged out. Load the page again to log in.");
    if (!answer.ok) return later(5);
    const { idle_seconds: idle, absolute_seconds: absolute } = await answer.json();
    if (idle === null) return later(60);
    if (idle > warnAt) {
      hide();
      return later(idle - warnAt);
    }
    warn(idle, absolute !== null && absolute <= idle);
    return later(Math.min(5, idle + 1));
  };

  if (warning) {
    button.addEventListener("click", async () => {
      await post("/session/stay").catch(() => null);
      ask();
    });
    // The server says at once when the session has ended. A page that nobody sees does not listen:
    // browsers open few connections to one server.
    let events = null;
    const listen = () => {
      events?.close();
      events = null;
      if (document.hidden || isOver) return;
      events = new EventSource("/session/events");
      events.addEventListener("open", () => { document.documentElement.dataset.live = "open"; });
      events.addEventListener("ended", (event) => {
        events.close();
        document.documentElement.dataset.live = "ended";
        end(event.data === "revoked"
          ? "You were signed out from another device. Load the page again to log in."
          : "You are logged out. Load the page again to log in.");
      });
    };
    document.addEventListener("visibilitychange", () => {
      listen();
      document.hidden || ask();
    });
    listen();
    ask();
  }
}

// Twenty clicks at once, if you like with a logout in the midst of them.
{
  const clicks = document.getElementById("clicks");
  const result = document.getElementById("race-result");
  const buttons = [document.getElementById("race-clicks"), document.getElementById("race-logout")];
  const isShared = document.getElementById("race")?.dataset.shared === "true";
  const number = 20;

  const counted = (clicks) => (clicks === 1 ? "1 click" : `${clicks} clicks`);

  const look = async () => (await fetch("/session/clicks", { cache: "no-store" })).json();

  const race = async (logsOut) => {
    const before = await look();
    const way = Array.from({ length: number }, () => "/clicks");
    if (logsOut) way.splice(number / 2, 0, "/logout");
    await Promise.all(way.map(post));
    const after = await look();
    clicks.textContent = after.clicks;
    if (!logsOut) {
      const lost = Math.max(0, before.clicks + number - after.clicks);
      return `Before: ${before.clicks}. Sent: ${number}. Now: ${after.clicks}. ` +
        (lost === 0 ? "Not one click is lost." : `Lost: ${lost}.`);
    }
    if (after.logged_in) {
      return isShared
        ? "You are still logged in: that must not happen."
        : "You are still logged in: the answer to a click came last, and brought the old cookie back.";
    }
    return `You are logged out, and the session of ${counted(before.clicks)} is gone for good. ` +
      `${counted(after.clicks)} came after the logout, into a new session of nobody's.`;
  };

  const start = async (logsOut) => {
    buttons.forEach((button) => { button.disabled = true; });
    result.textContent = "They are on their way …";
    try {
      result.textContent = await race(logsOut);
    } catch {
      result.textContent = "The server cannot be reached. Try again in a moment.";
    }
    buttons.forEach((button) => { button.disabled = false; });
  };

  if (result) buttons.forEach((button, n) => button.addEventListener("click", () => start(n === 1)));
}
