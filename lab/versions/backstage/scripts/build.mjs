// Builds web/dist as app-backend expects it: static/ with hashed names, the page's template, the page without
// a server, and the schema that says which configuration the browser may see.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { build } from 'esbuild';

const { loadConfigSchema } = createRequire(import.meta.url)('@backstage/config-loader');
const root = path.resolve(import.meta.dirname, '..');
const dist = path.join(root, 'web/dist');
const entry = 'web/src/index.jsx';

async function bundle() {
  const fileTypes = ['svg', 'png', 'jpg', 'gif', 'woff', 'woff2', 'ttf', 'eot', 'md'];
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: { main: entry },
    outdir: 'web/dist/static',
    publicPath: '/static', // else imported images are looked for beside the page
    entryNames: '[name].[hash]',
    chunkNames: '[name].[hash]',
    assetNames: '[name].[hash]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    jsx: 'automatic',
    minify: true,
    metafile: true,
    logLevel: 'warning',
    mainFields: ['browser', 'module', 'main'],
    alias: { 'csv-stringify/lib/sync': 'csv-stringify/lib/browser/sync.js' }, // else it imports node:stream
    define: {
      'process.env.NODE_ENV': '"production"',
      'process.env.APP_CONFIG': 'undefined',
      'process.env.HAS_REACT_DOM_CLIENT': 'true',
      global: 'globalThis',
    },
    banner: { js: 'globalThis.process??={env:{}};' },
    loader: Object.fromEntries(fileTypes.map(type => [`.${type}`, 'file'])),
  });
  return metafile.outputs;
}

function assetTags(outputs) {
  const [script, main] = Object.entries(outputs).find(([, output]) => output.entryPoint === entry);
  const url = file => `<%= publicPath %>/${path.relative('web/dist', file)}`;
  return [
    `    <link rel="stylesheet" href="${url(main.cssBundle)}" />`,
    `    <script type="module" src="${url(script)}"></script>`,
  ].join('\n');
}

async function writePage(outputs) {
  const source = await readFile(path.join(root, 'web/index.html'), 'utf8');
  const template = source.replace('<!--ASSETS-->', assetTags(outputs));
  const page = template.replaceAll('<%= publicPath %>', '').replace(/<%=[^%]*%>/g, 'Backstage');
  await writeFile(path.join(dist, 'index.html.tmpl'), template);
  await writeFile(path.join(dist, 'index.html'), page);
}

// Without the schema app-backend hands the browser an empty configuration.
async function writeConfigSchema() {
  const manifest = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
  const names = Object.keys({ ...manifest.dependencies, ...manifest.devDependencies });
  const schema = await loadConfigSchema({ dependencies: names.filter(name => name.startsWith('@backstage/')) });
  await writeFile(path.join(dist, '.config-schema.json'), JSON.stringify(schema.serialize()));
}

await rm(dist, { recursive: true, force: true });
await mkdir(path.join(dist, 'static'), { recursive: true });
const outputs = await bundle();
await writePage(outputs);
await writeConfigSchema();
console.log(`web/dist: ${Object.keys(outputs).length} files`);
