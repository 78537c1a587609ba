// The approval page's one script: it sends verdicts to the API, shows what changes, and keeps what was typed. It decides
// nothing: what counts is what the API answers.
'use strict';

const hold = document.getElementById('hold');
const inbox = document.getElementById('inbox');
const id = hold?.dataset.hold;
const draftKey = `draft ${id}`;
// The server's own page, which it has escaped: the only markup that is ever taken in.
const policy = window.trustedTypes?.createPolicy('page', { createHTML: (text) => text });
const parse = (text) => new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, 'text/html');
const at = (name) => document.getElementById(name);

function say(text, signIn) {
  const alert = at('alert');
  alert.replaceChildren(text);
  if (signIn) {
    const link = document.createElement('a');
    link.href = `/signin?to=${location.pathname}`;
    link.textContent = 'Sign in';
    alert.append(' ', link);
  }
}

// ---- what was typed

const fields = () => [...document.querySelectorAll('#form textarea')];

function keep() {
  const typed = {};
  for (const field of fields()) if (field.value !== field.defaultValue) typed[field.name] = field.value;
  if (Object.keys(typed).length) sessionStorage.setItem(draftKey, JSON.stringify({ digest: hold.dataset.digest, typed }));
  else sessionStorage.removeItem(draftKey);
}

function restore() {
  const draft = JSON.parse(sessionStorage.getItem(draftKey) ?? 'null');
  if (!draft) return;
  for (const field of fields()) {
    // Changes to a request that has changed meanwhile would be changes to something else.
    if (field.name in draft.typed && (field.id === 'reason' || draft.digest === hold.dataset.digest)) {
      field.value = draft.typed[field.name];
      if (field.id !== 'reason') at('modify').open = true;
    }
  }
}

// ---- asking the API

async function ask(path, body) {
  let answer;
  try {
    const headers = { 'content-type': 'application/json' };
    answer = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), redirect: 'error' });
  } catch {
    say('countersign cannot be reached. Nothing was sent; what you typed is kept.');
    return null;
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  if (answer.status === 401) {
    say(said.error === 'insufficient_user_authentication'
      ? 'To decide, sign in once more. What you typed is kept.'
      : 'Your sign-in has expired. What you typed is kept.', true);
  } else {
    say(`Refused: ${said.message ?? answer.status}`);
    if (answer.status === 409 || answer.status === 410) await refresh();
  }
  return null;
}

async function decide(verdict, parameters) {
  const reason = at('reason');
  if (!reason.value.trim()) {
    say('A reason is required: the agent and the log are told.');
    reason.focus();
    return;
  }
  keep();
  const buttons = document.querySelectorAll('#form button');
  for (const button of buttons) button.disabled = true;
  const body = { verdict, reason: reason.value, digest: hold.dataset.digest };
  if (parameters) body.parameters = parameters;
  const said = await ask(`/v1/holds/${id}/verdict`, body);
  for (const button of buttons) button.disabled = false;
  if (said) {
    sessionStorage.removeItem(draftKey);
    for (const field of fields()) field.value = field.defaultValue;
    say(`Your verdict is in: ${verdict}.`);
    await refresh();
  }
}

// ---- something smaller

let shown = null;

function changes() {
  const patch = {};
  for (const field of document.querySelectorAll('.parameter')) {
    if (field.value === field.defaultValue) continue;
    if (!field.value.trim()) patch[field.name] = null;
    else if (field.dataset.kind === 'text') patch[field.name] = field.value;
    else {
      try {
        patch[field.name] = JSON.parse(field.value);
      } catch (error) {
        say(`${field.name} is no JSON: ${error.message}`);
        field.focus();
        return null;
      }
    }
  }
  return patch;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function forget() {
  shown = null;
  at('difference')?.replaceChildren();
}

async function preview() {
  forget();
  say('');
  const parameters = changes();
  if (!parameters) return;
  if (!Object.keys(parameters).length) {
    say('Nothing is changed yet.');
    return;
  }
  const said = await ask(`/v1/holds/${id}/preview`, { parameters, digest: hold.dataset.digest });
  if (!said) return;
  const made = [element('h3', 'What would change')];
  for (const change of said.modified) {
    made.push(element('p', change.pointer, 'pointer'));
    const lines = document.createElement('pre');
    lines.tabIndex = 0;
    for (const line of change.lines) {
      const kind = { '+': 'ins', '-': 'del' }[line[0]] ?? 'span';
      lines.append(element(kind, `${line}\n`));
    }
    made.push(lines);
  }
  made.push(element('p', `It takes: ${said.asks.join('; and ')}.`));
  made.push(element('p', `Its digest: ${said.digest}`, 'digest'));
  const send = element('button', 'Allow the changed request');
  send.type = 'button';
  send.id = 'send';
  made.push(send);
  at('difference').replaceChildren(...made);
  at('difference').scrollIntoView({ block: 'nearest' });
  shown = parameters;
}

// ---- what happens meanwhile

let refreshing = Promise.resolve();

// One after the other, so that an older page never follows a newer one.
function refresh() {
  refreshing = refreshing.then(load, load);
  return refreshing;
}

async function load() {
  let answer;
  try {
    answer = await fetch(location.pathname, { redirect: 'manual', headers: { accept: 'text/html' } });
  } catch {
    at('state').textContent = 'countersign cannot be reached; this may be old.';
    return;
  }
  if (answer.type === 'opaqueredirect') {
    stop();
    say('Your sign-in has expired. What you typed is kept.', true);
    return;
  }
  if (!answer.ok) {
    stop();
    const page = parse(await answer.text());
    document.querySelector('main').replaceWith(page.querySelector('main'));
    return;
  }
  const page = parse(await answer.text());
  const fresh = page.querySelector('main');
  document.title = page.title;
  if (hold) {
    for (const name of ['state', 'title', 'left', 'card']) swap(fresh, name);
    const had = hold.dataset.digest;
    hold.dataset.digest = fresh.dataset.digest;
    keepForm(fresh, had !== fresh.dataset.digest);
  } else {
    swap(fresh, 'card');
  }
  tick();
}

function swap(fresh, name) {
  const [old, next] = [at(name), fresh.querySelector(`#${name}`)];
  if (old.innerHTML === next.innerHTML && old.className === next.className) return;
  const open = [...old.querySelectorAll('pre')].map((it) => [it.scrollLeft, it.scrollTop]);
  old.replaceChildren(...next.childNodes);
  old.className = next.className;
  old.querySelectorAll('pre').forEach((it, index) => open[index] && it.scrollTo(...open[index]));
}

function keepForm(fresh, isOther) {
  const [old, next] = [at('decide'), fresh.querySelector('#decide')];
  const shape = (it) => [...it.querySelectorAll('[id]')].map((one) => one.id).filter((one) => one !== 'send').join(' ');
  const said = (it) => it.querySelector('.votes')?.textContent;
  if (!isOther && shape(old) === shape(next) && said(old) === said(next)) return;
  const focus = document.activeElement?.id;
  if (at('form') && fields().length) keep();
  forget();
  old.replaceChildren(...next.childNodes);
  restore();
  if (focus && at(focus)) at(focus).focus();
  if (isOther) say('The request was changed while you looked. Read it again before you decide.');
}

let source = null;
let waiting = null;

function stop() {
  source?.close();
  source = null;
}

function listen() {
  if (source || document.hidden) return;
  source = new EventSource(hold ? `/v1/holds/${id}/events` : '/v1/holds/events');
  source.addEventListener('hold', () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 150);
  });
  source.addEventListener('error', () => {
    if (source?.readyState === EventSource.CLOSED) {
      source = null;
      refresh();
    }
  });
}

// ---- time

function left(until) {
  const seconds = Math.floor((Date.parse(until) - Date.now()) / 1000);
  if (seconds < 0) return 'The time is over';
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, '0');
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)} left`;
}

function tick() {
  for (const it of document.querySelectorAll('[data-expires]')) it.textContent = left(it.dataset.expires);
}

if (hold || inbox) {
  restore();
  tick();
  setInterval(tick, 1000);
  // Times in the card, and who is on call, change without an event.
  setInterval(() => document.hidden || !source || refresh(), 30_000);
  listen();
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) stop();
    else {
      listen();
      refresh();
    }
  });
  document.addEventListener('input', (event) => {
    if (!event.target.closest?.('#form')) return;
    keep();
    if (event.target.classList.contains('parameter')) forget();
  });
  document.addEventListener('submit', (event) => {
    if (event.target.id === 'form') event.preventDefault();
  });
  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('#form button');
    if (button?.dataset.verdict) decide(button.dataset.verdict);
    else if (button?.id === 'preview') preview();
    else if (button?.id === 'send' && shown) decide('modify', shown);
  });
}
