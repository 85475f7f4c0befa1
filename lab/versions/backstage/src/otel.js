'use strict';

// Loaded with --require: the libraries must be patched before Backstage loads them.
const { ExpressInstrumentation } = require('@opentelemetry/instrumentation-express');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { PgInstrumentation } = require('@opentelemetry/instrumentation-pg');
const { PrometheusExporter } = require('@opentelemetry/exporter-prometheus');
const { RuntimeNodeInstrumentation } = require('@opentelemetry/instrumentation-runtime-node');
const { NodeSDK } = require('@opentelemetry/sdk-node');

new NodeSDK({
  metricReaders: [new PrometheusExporter({ host: '0.0.0.0', port: 9464 })],
  spanProcessors: [], // metrics only: nothing here collects traces
  instrumentations: [
    new HttpInstrumentation(),
    new ExpressInstrumentation(), // gives http_route, without which all paths fall into one series
    new PgInstrumentation(),
    new RuntimeNodeInstrumentation(),
  ],
}).start();
