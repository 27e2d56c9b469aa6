console.log('in a worker');
fetch('/data.json?from=worker').then((it) => it.text()).then(() => postMessage('done'));
