// Listens for what a user does, and reports it through the binding `__tapline`. Runs in every frame,
// in a world of its own: the page sees none of its names, and it sees none of the page's.
//
// It never reads the value of a field. It reports no key that types a character into a field that
// contains a secret, or may contain one.
(() => {
  'use strict';
  if (globalThis.__taplineStop) return;

  const SETTLED_MS = 200; // without a scroll event: longer than the pause between two steps of a wheel
  const MAX_SCROLLING = 32; // elements that scroll at a time
  const MAX_TEXT = 100;
  const SECRET = /pass|pwd|secret|token|otp|one.?time|cvc|cvv|card|cc-|ssn|iban|(^|[^a-z])pin([^a-z]|$)/i;

  const secretFields = new WeakSet();
  const scrolling = new Map();

  const report = (what) => {
    const binding = globalThis.__tapline;
    if (typeof binding === 'function') binding(JSON.stringify(what));
  };

  // The innermost element, also within an open shadow tree.
  const elementOf = (event) => {
    const first = event.composedPath()[0];
    if (first instanceof Element) return first;
    return document.documentElement;
  };

  const tagOf = (element) => (element ? element.localName : 'document');

  const selectorOf = (element) => {
    const parts = [];
    for (let at = element; at && parts.length < 6; at = at.parentElement) {
      if (at.id && at.id.length <= 64) {
        parts.unshift('#' + CSS.escape(at.id));
        break;
      }
      let part = CSS.escape(at.localName);
      const alike = at.parentElement
        ? Array.from(at.parentElement.children).filter((it) => it.localName === at.localName)
        : [];
      if (alike.length > 1) part += ':nth-of-type(' + (alike.indexOf(at) + 1) + ')';
      parts.unshift(part);
    }
    return parts.join(' > ');
  };

  const isSecret = (element) => {
    if (secretFields.has(element)) return true;
    // A closed shadow tree cannot be inspected, so the field in it may be a password.
    if (element.localName.includes('-') && !element.shadowRoot) return true;
    const named = ['type', 'name', 'id', 'autocomplete', 'aria-label', 'placeholder'];
    const labels = Array.from(element.labels || [], (label) => label.textContent);
    const says = named.map((name) => element.getAttribute(name) || '').concat(labels).join(' ');
    const hidden = getComputedStyle(element).webkitTextSecurity;
    const secret = SECRET.test(says) || (hidden && hidden !== 'none');
    // A password that is shown remains one.
    if (secret) secretFields.add(element);
    return Boolean(secret);
  };

  const isEdited = (element) =>
    element.isContentEditable || ['input', 'textarea', 'select'].includes(element.localName);

  const textOf = (element) => {
    // A click outside of every element is not a click on all of the text.
    if (element === document.documentElement || element === document.body) return undefined;
    if (isEdited(element) || isSecret(element)) return undefined;
    return (element.innerText || '').trim().slice(0, MAX_TEXT) || undefined;
  };

  const onClick = (event) => {
    if (!event.isTrusted) return;
    const element = elementOf(event);
    report({
      kind: 'click',
      x: event.clientX,
      y: event.clientY,
      selector: selectorOf(element),
      tag: tagOf(element),
      text: textOf(element),
    });
  };

  const onKey = (event) => {
    if (!event.isTrusted || event.repeat) return;
    const element = elementOf(event);
    // `Enter` or `Tab` types nothing; `a` or `é` does.
    const typed = [...event.key].length === 1 || ['Dead', 'Process', 'Unidentified'].includes(event.key);
    if (typed && isSecret(element)) return;
    report({ kind: 'key', key: event.key, selector: selectorOf(element), tag: tagOf(element) });
  };

  // A password that is shown before anything is typed was one when it was entered.
  const onFocus = (event) => isSecret(elementOf(event));

  const positionOf = (scrolled) =>
    scrolled === document ? [scrollX, scrollY] : [scrolled.scrollLeft, scrolled.scrollTop];

  // The first event of a scroll comes after the first move, so it does not show where the scroll began.
  const rested = new WeakMap([[document, [scrollX, scrollY]]]);

  const onScroll = (event) => {
    const scrolled = event.target;
    if (scrolled !== document && !(scrolled instanceof Element)) return;
    let scroll = scrolling.get(scrolled);
    if (scroll) {
      clearTimeout(scroll.timer);
    } else {
      if (scrolling.size === MAX_SCROLLING) return;
      scroll = { from: rested.get(scrolled) || [0, 0] };
      scrolling.set(scrolled, scroll);
    }
    scroll.timer = setTimeout(() => {
      scrolling.delete(scrolled);
      const to = positionOf(scrolled);
      rested.set(scrolled, to);
      report({
        kind: 'scroll',
        from_x: scroll.from[0],
        from_y: scroll.from[1],
        x: to[0],
        y: to[1],
        selector: scrolled === document ? 'document' : selectorOf(scrolled),
      });
    }, SETTLED_MS);
  };

  // `document.open()` removes the listeners of the window, and everything in the document, and this script is
  // not run again. What the document contains then is new.
  const opened = new MutationObserver(() => listen());

  // A popup gets a document of its own after this script was run, within the same window.
  const watch = () => opened.observe(document, { childList: true });

  const listeners = [
    ['click', onClick],
    ['focusin', onFocus],
    ['keydown', onKey],
    ['scroll', onScroll],
    ['readystatechange', watch],
  ];
  const how = { capture: true, passive: true };
  const listen = () => {
    // A listener that is there already is not added again.
    for (const [name, listener] of listeners) addEventListener(name, listener, how);
    watch();
  };
  listen();

  globalThis.__taplineStop = () => {
    opened.disconnect();
    for (const [name, listener] of listeners) removeEventListener(name, listener, how);
    for (const scroll of scrolling.values()) clearTimeout(scroll.timer);
    delete globalThis.__taplineStop;
  };
})();
