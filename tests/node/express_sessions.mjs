// An application of Express whose users sign in by passport, with its sessions in Redis, until it is asked for /end.
//
//     node express_sessions.mjs <port of Redis> <port to listen on>
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import passport from "passport";
import { createClient } from "redis";

const [redisPort, port] = process.argv.slice(2).map(Number);
const client = await createClient({ url: `redis://127.0.0.1:${redisPort}` }).connect();
const app = express();
app.use(
  session({
    secret: ["the new secret", "the old secret"],
    store: new RedisStore({ client }),
    cookie: { maxAge: 3600_000 },
    rolling: true,
    resave: false,
    saveUninitialized: false,
  }),
);
app.use(passport.session());
passport.serializeUser((user, done) => done(null, user.id));
passport.deserializeUser((id, done) => done(null, { id }));

app.get("/login", (request, response, next) =>
  request.login({ id: request.query.user }, (error) => (error ? next(error) : response.end())),
);
app.get("/here", (request, response) => response.end(request.user?.id));
app.get("/logout", (request, response, next) =>
  request.session.destroy((error) => (error ? next(error) : response.end())),
);
app.get("/end", (request, response) => {
  response.end();
  process.exit(0);
});
app.listen(port, "127.0.0.1");
