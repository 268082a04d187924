// Phones for a page: each registers at the edge by WebSocket and returns the RTCPeerConnection of its call. JsSIP and SIP.js are the
// two libraries that web phones are made of.

import JsSIP from 'jssip';
import { Inviter, Registerer, RegistererState, SessionState, UserAgent } from 'sip.js';

// media lets the pages' fake microphone through as it is.
const media = { audio: { echoCancellation: false, autoGainControl: false, noiseSuppression: false }, video: false };
const seconds = 15;

function within(what, promise) {
	const late = new Promise((_, fail) => setTimeout(() => fail(new Error(what + ': not in ' + seconds + ' s')), seconds * 1000));
	return Promise.race([promise, late]);
}

class JsSIPPhone {
	constructor(account, url) {
		this.ua = new JsSIP.UA({
			sockets: [new JsSIP.WebSocketInterface(url)], uri: 'sip:' + account.user + '@' + account.domain, password: account.password,
			register: true, session_timers: false,
		});
	}
	register() {
		return within('JsSIP registers', new Promise((done, fail) => {
			this.ua.on('registered', () => done());
			this.ua.on('registrationFailed', (e) => fail(new Error('JsSIP: registration failed: ' + e.cause)));
			this.ua.start();
		}));
	}
	call(uri) {
		return within('JsSIP calls', new Promise((done, fail) => {
			const session = this.ua.call(uri, { mediaConstraints: media, pcConfig: { iceServers: [] } });
			session.on('confirmed', () => done(session.connection));
			session.on('failed', (e) => fail(new Error('JsSIP: call failed: ' + e.cause)));
			this.session = session;
		}));
	}
	answer() {
		return within('JsSIP is called', new Promise((done, fail) => {
			this.ua.on('newRTCSession', ({ session }) => {
				if (session.direction !== 'incoming') return;
				session.on('confirmed', () => done(session.connection));
				session.on('failed', (e) => fail(new Error('JsSIP: call failed: ' + e.cause)));
				session.answer({ mediaConstraints: media, pcConfig: { iceServers: [] } });
				this.session = session;
			});
		}));
	}
	// hold and resume are two re-INVITEs.
	hold() { return within('JsSIP holds', new Promise((done) => this.session.hold({}, done))); }
	resume() { return within('JsSIP resumes', new Promise((done) => this.session.unhold({}, done))); }
	hangUp() { this.session.terminate(); }
	stop() { this.ua.stop(); }
}

class SIPjsPhone {
	constructor(account, url) {
		this.domain = account.domain;
		this.ua = new UserAgent({
			uri: UserAgent.makeURI('sip:' + account.user + '@' + account.domain), transportOptions: { server: url },
			authorizationUsername: account.user, authorizationPassword: account.password, logBuiltinEnabled: false,
			sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
		});
	}
	async register() {
		await within('SIP.js connects', this.ua.start());
		const registerer = new Registerer(this.ua);
		await within('SIP.js registers', new Promise((done, fail) => {
			registerer.stateChange.addListener((s) => s === RegistererState.Registered && done());
			registerer.register({ requestDelegate: { onReject: (r) => fail(new Error('SIP.js: registration failed: ' + r.message.statusCode)) } });
		}));
	}
	established(what, session, start) {
		this.session = session;
		return within(what, new Promise((done, fail) => {
			session.stateChange.addListener((s) => {
				if (s === SessionState.Established) done(session.sessionDescriptionHandler.peerConnection);
				if (s === SessionState.Terminated) fail(new Error(what + ': the call ended'));
			});
			start().catch(fail);
		}));
	}
	call(uri) {
		const session = new Inviter(this.ua, UserAgent.makeURI(uri), { sessionDescriptionHandlerOptions: { constraints: media } });
		return this.established('SIP.js calls', session, () => session.invite());
	}
	answer() {
		return within('SIP.js is called', new Promise((done, fail) => {
			this.ua.delegate = {
				onInvite: (session) => this.established('SIP.js answers', session, () =>
					session.accept({ sessionDescriptionHandlerOptions: { constraints: media } })).then(done, fail),
			};
		}));
	}
	hangUp() { this.session.bye(); }
	stop() { this.ua.stop(); }
}

// sum reads what getStats says of the audio of a connection.
async function sum(pc) {
	const all = [...(await pc.getStats()).values()];
	const one = (type) => all.find((s) => s.type === type && (s.kind || 'audio') === 'audio') || {};
	const sent = one('outbound-rtp'), got = one('inbound-rtp'), transport = one('transport');
	const codec = (s) => (all.find((c) => c.id === s.codecId) || {}).mimeType;
	return {
		connection: pc.connectionState, ice: pc.iceConnectionState, dtls: transport.dtlsState, cipher: transport.srtpCipher,
		role: transport.dtlsRole, sendCodec: codec(sent), recvCodec: codec(got), bytesSent: sent.bytesSent || 0,
		bytesReceived: got.bytesReceived || 0, packetsReceived: got.packetsReceived || 0, packetsLost: got.packetsLost || 0,
		energy: got.totalAudioEnergy || 0,
	};
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// talk listens for a while and returns the difference.
async function talk(pc, ms) {
	// Chromium decodes only what somebody plays.
	const audio = new Audio();
	audio.srcObject = new MediaStream(pc.getReceivers().map((r) => r.track));
	audio.play();
	const started = performance.now();
	while (pc.connectionState !== 'connected' && performance.now() - started < 5000) await sleep(10);
	const connected = performance.now() - started, before = await sum(pc);
	await sleep(ms);
	const after = await sum(pc);
	for (const k of ['bytesSent', 'bytesReceived', 'packetsReceived', 'energy']) after[k] -= before[k];
	return { ...after, connectMs: Math.round(connected) };
}

const kinds = { jssip: JsSIPPhone, sipjs: SIPjsPhone };

// plays are what a test asks for, by name.
const plays = {
	async echo(c) {
		const phone = new kinds[c.library](c.accounts[0], c.url);
		await phone.register();
		const pc = await phone.call('sip:600@' + c.accounts[0].domain);
		const result = { call: await talk(pc, 3000) };
		if (c.library === 'jssip') {
			await phone.hold();
			await phone.resume();
			result.resumed = await talk(pc, 1500);
		}
		phone.hangUp();
		phone.stop();
		return result;
	},
	async pair(c) {
		const caller = new JsSIPPhone(c.accounts[0], c.url), callee = new SIPjsPhone(c.accounts[1], c.url);
		await Promise.all([caller.register(), callee.register()]);
		const [a, b] = await Promise.all([caller.call('sip:' + c.accounts[1].user + '@' + c.accounts[1].domain), callee.answer()]);
		const [one, two] = await Promise.all([talk(a, 3000), talk(b, 3000)]);
		caller.hangUp();
		await sleep(300);
		caller.stop();
		callee.stop();
		return { call: one, called: two };
	},
};

const config = await (await fetch('/config')).json();
let report;
try {
	report = await plays[config.play](config);
} catch (e) {
	report = { error: String(e) };
}
await fetch('/result', { method: 'POST', body: JSON.stringify(report) });
